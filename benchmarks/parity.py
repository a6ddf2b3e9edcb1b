"""Difference of logits between a model with a memory that evicts nothing and the plain model, family by family.

    python -m benchmarks.parity

Small random models in float32, from configurations alone; the text is longer than the models' own sliding windows. For
each: the largest difference of a logit, read whole and in uneven segments, beside what the model's own cache does to its
logits; and whether unmodified `generate` writes the same tokens, for two rows of which one is padded on the left. To
compare versions of transformers, run it once with each; the result files are named by the version.
"""

import argparse
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from benchmarks import report
from memspan.pretrained.attach import attached
from memspan.pretrained.families import FAMILIES, Tier
from tests.pretrained.tiny import CACHE, VARIANTS, random_ids, tiny_model

LENGTHS = [17, 1, 40, 2, 30]
NEW = 24


@torch.inference_mode()
def read(model: Any, ids: Tensor, lengths: list[int]) -> Tensor:
    """The logits of ids (1, S), read in pieces of these lengths."""
    logits, cache = [], None
    for segment in ids.split(lengths, dim=1):
        output = model(segment, **{CACHE: cache}, use_cache=True)
        cache = output.past_key_values
        logits.append(output.logits)
    return torch.cat(logits, 1)


def written(model: Any) -> Tensor:
    """The tokens that greedy `generate` adds to two prompts, one of them padded."""
    ids, mask = random_ids(2, 40), torch.ones(2, 40, dtype=torch.int64)
    ids[1, :25] = mask[1, :25] = 0
    return model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False)[:, 40:]


def parity(name: str) -> dict[str, Any]:
    """What is measured for a family or a variant of one."""
    model, ids = tiny_model(name), random_ids(1, sum(LENGTHS))
    plain, tokens = read(model, ids, [sum(LENGTHS)]), written(model)
    own = read(model, ids, LENGTHS)
    with attached(model, window=None):
        whole, segments, remembered = read(model, ids, [sum(LENGTHS)]), read(model, ids, LENGTHS), written(model)
    return {
        "family": name,
        "tier": FAMILIES[VARIANTS.get(name, (name,))[0]].tier.value,
        "whole": f"{(whole - plain).abs().max():.1e}",
        "in segments": f"{(segments - plain).abs().max():.1e}",
        "its own cache": f"{(own - plain).abs().max():.1e}",
        "tokens equal": f"{int((remembered == tokens).sum())}/{tokens.numel()}",
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    supported = [name for name, family in FAMILIES.items() if family.tier is not Tier.UNSUPPORTED]
    names = [name for name in [*supported, *VARIANTS] if VARIANTS.get(name, (name,))[0] in CONFIG_MAPPING]
    rows = [parity(name) for name in names]
    report.table(rows)
    print(
        f"transformers {transformers.__version__}, torch {torch.__version__}: {len(rows)} models, "
        f"{sum(row['tokens equal'] == f'{2 * NEW}/{2 * NEW}' for row in rows)} of them write the same tokens"
    )
    report.save(f"parity-transformers-{transformers.__version__}", rows, seeds=[0])


if __name__ == "__main__":
    main()
