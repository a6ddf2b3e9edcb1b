"""CPU seconds of a calibration, for a model of random weights in the shape of a 0.5B one.

    python -m benchmarks.calibration [--layers 24]

Calibration runs the lower two thirds of the layers over the corpus and scores all their heads, the keys of a key-value head
de-quantised once. Beside it stands the earlier way of scoring, one head and one question at a time, measured for one layer
and multiplied by the number of layers; both give the same scores. The tokenizer is that of SmolLM2.
"""

import argparse
import math
import time

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks import report
from memspan.memory.index import calibration
from memspan.memory.index.head_scores import HeadQuery, head_scores, scores_by_head
from memspan.memory.store.snapshot import Block
from memspan.pretrained import hub
from memspan.pretrained.heads import HeadReader
from memspan.pretrained.hub import dtype_of

SHAPE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151_936,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": True,
}
LIMIT = 90.0  # CPU seconds of the whole calibration


def corpus(rng: np.random.Generator, heads: int, groups: int, size: int) -> tuple[list[HeadQuery], Block]:
    """Random queries and keys of one layer, as many as the calibration has, with passages of 120 tokens."""
    lengths = np.full(calibration.PASSAGES, 120)
    keys = rng.integers(-127, 128, (lengths.sum(), groups, size)).astype(np.int8)
    scales = np.full(keys.shape[:2], 0.02, np.float16)
    shared = tuple(np.arange(heads) // (heads // groups))
    questions = [
        HeadQuery(rng.normal(size=(15, heads, size)).astype(np.float32) / 8, shared) for _ in range(calibration.NEEDLES)
    ]
    return questions, Block(0, keys, scales, np.cumsum(lengths))


def one_at_a_time(questions: list[HeadQuery], block: Block) -> np.ndarray:
    """The scores (Q, H, P) of every head, a head and a question at a time."""
    groups = questions[0].groups
    by_head = []
    for head, group in enumerate(groups):
        of_group = Block(0, block.keys[:, group : group + 1], block.scales[:, group : group + 1], block.ends)
        of_head = [HeadQuery(question.queries[:, head : head + 1], (0,)) for question in questions]
        by_head.append(np.stack([head_scores(question, [of_group]) for question in of_head]))
    return np.stack(by_head, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    options = parser.parse_args()

    torch.manual_seed(0)
    tokenizer = hub.load("smollm2").tokenizer
    config = Qwen2Config(num_hidden_layers=options.layers, **SHAPE)
    model = Qwen2ForCausalLM(config).to(dtype_of("auto", torch.device("cpu"))).eval()
    reader = HeadReader(model)
    marks = {0.0: time.process_time()}
    heads = calibration.calibrate(reader, tokenizer, lambda share: marks.update({share: time.process_time()}))
    encoded, end, begun = marks[calibration.TEXTS_SHARE], marks[1.0], marks[0.0]

    scored_layers = math.ceil(calibration.DEPTH * options.layers)
    questions, block = corpus(np.random.default_rng(0), reader.query_heads, reader.key_heads, reader.head_size)
    times = [time.process_time()]
    together = scores_by_head(questions, [block])
    times.append(time.process_time())
    alone = one_at_a_time(questions, block)
    times.append(time.process_time())
    np.testing.assert_allclose(together, alone, rtol=1e-3, atol=1e-4)
    figures = {
        "layers": options.layers,
        "calibration, CPU s": end - begun,
        "the model, CPU s": encoded - begun,
        "scores, CPU s": end - encoded,
        "scores one at a time, CPU s": (times[2] - times[1]) * scored_layers,
        "share of one at a time": (times[1] - times[0]) / (times[2] - times[1]),
        "heads": len(heads.heads),
    }
    report.table([figures])
    if options.layers == parser.get_default("layers"):
        print(f"at most {LIMIT:.0f} CPU seconds: {'yes' if end - begun <= LIMIT else 'NO'}")
        report.save("calibration", figures, seeds=[0])


if __name__ == "__main__":
    main()
