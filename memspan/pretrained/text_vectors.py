"""Vectors of texts from a language model's own hidden states, so that no second model is needed for a search by meaning.

Letters: N texts, B rows, S tokens, T tokens so far, D numbers of a state, E numbers of a vector.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.pretrained import hub
from memspan.pretrained.adapt import DTYPES, Pretrained, PretrainedConfig, kind_of
from memspan.pretrained.heads import HeadReader, sink_of
from memspan.pretrained.identity import tokenizer_fingerprint, weights_sample
from memspan.state import State

DEPTHS = (0.2, 0.4, 0.6)  # of the layers whose states are read; measured on SmolLM2, see LOG.md
SIZE = 384  # numbers of a vector
LONGEST = 512  # tokens of a text that are read, if the model's window has twice as many; longer texts lose their end
TOKENS_AT_ONCE = 4096  # of a batch on a GPU, padding included
DROPOUT = 0.2  # of the states, in training
TEMPERATURE = 0.05  # of the cosines, before training (Gao et al. 2021)
LARGEST_SCALE = 100.0  # that is told from a few hundred pairs
KEPT = 100_000  # texts whose states are kept while a projection is trained


@dataclass(frozen=True)
class VectorsConfig(PretrainedConfig):
    """A frozen base and a projection of its states.

    Attributes:
        window: tokens of a text that are read.
        layers: whose hidden states are read, side by side.
        size: E.
        sink: the id that begins every text.
        tokenizer: the fingerprint of the base's tokenizer.
        identity: of the base, by its files.
        sample: a hash of some of its weights, in the dtype that it was trained with.
    """

    layers: Sequence[int] = ()
    size: int = SIZE
    sink: int = 0
    tokenizer: str = ""
    identity: str = ""
    sample: str = ""


def mean_states(reader: HeadReader, config: VectorsConfig, texts: Sequence[Sequence[int]], kind: str) -> Tensor:
    """The mean over a text's tokens of the hidden states before some layers, side by side, float32 (N, D) on the CPU.

    The sink before a text, which draws attention, does not count. A text of the kind "question" is read twice and has the
    mean of its second copy, whose tokens see all of it (Springer et al. 2024); a "passage", which is long, is read once.

    On the CPU texts are read one by one: then the numbers of a text do not depend, not even in rounding, on those read
    with it, and a run that is resumed ends with the same weights.
    """
    sink, texts = config.sink, [ids[: config.window] for ids in texts]
    rows = [[sink, *ids, *(ids if kind == "question" else ())] for ids in texts]
    counts = [max(1, len(ids)) for ids in texts]
    means: list[Tensor | None] = [None] * len(texts)
    for batch in _batches(rows, 0 if reader.device.type == "cpu" else TOKENS_AT_ONCE):
        longest = max(len(rows[row]) for row in batch)
        # Padding is on the right, where no token of the text sees it.
        ids = torch.tensor([[*rows[row], *[sink] * (longest - len(rows[row]))] for row in batch], device=reader.device)
        hidden = reader.hidden_states(ids, config.layers).flatten(2)
        for row, states in zip(batch, hidden, strict=True):
            end = len(rows[row])
            means[row] = states[end - counts[row] : end].float().mean(0).cpu()
    return torch.stack([mean for mean in means if mean is not None])


class Projection(nn.Module):
    """States (N, D) -> vectors (N, E) of length one, by standard scores and a linear map.

    In most models a few dimensions are large in all states and decide any cosine (Timkey and van Schijndel 2021), hence
    standard scores. Those of questions and those of passages are scored among themselves, and share the map.

    Attributes:
        scale: see `best_scale`.
    """

    scale: Tensor

    def __init__(self, states: int, size: int) -> None:
        super().__init__()
        # No momentum: the means are those over all that was seen in training.
        self.scores = nn.ModuleDict(
            {name: nn.BatchNorm1d(states, affine=False, momentum=None) for name in ("question", "passage")}
        )
        self.linear = nn.Linear(states, size)
        nn.init.orthogonal_(self.linear.weight)  # keeps cosines about as they are before it has learned
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("scale", torch.tensor(1 / TEMPERATURE))

    def forward(self, states: Tensor, kind: str) -> Tensor:
        """`kind` is "question" or "passage"."""
        scores = normalize(self.scores[kind](states), dim=-1)
        return normalize(self.linear(dropout(scores, DROPOUT, self.training)), dim=-1)


def best_scale(cosines: Tensor, own: Sequence[int]) -> float:
    """By what cosines (N, P) are multiplied so that their softmax gives the columns `own` (N) the largest likelihood.

    Temperature scaling (Guo et al. 2017), on pairs that nothing was learned from. The less a vector tells of what answers a
    question, the less its cosines should count. From 0 to `LARGEST_SCALE`.
    """
    cosines = cosines.double()
    mine = cosines.gather(1, torch.tensor(own, device=cosines.device)[:, None]).mean()
    low, high = 0.0, LARGEST_SCALE
    for _ in range(30):  # the logarithm of the likelihood is concave, so its slope has one root
        middle = (low + high) / 2
        expected = ((cosines * middle).softmax(1) * cosines).sum(1).mean()
        low, high = (middle, high) if mine >= expected else (low, middle)
    return round(low, 3)


class PretrainedVectors(Pretrained):
    """A frozen causal LM and a `Projection` of its states: rows of pairs -> how alike each question and each passage are.

    A row holds the ids of a question, the end mark, and those of a passage. The logits of a row are the cosines of its
    question and the passages of all rows, over a learned temperature; its own passage comes first, those of the next rows
    follow, round and round. So cross-entropy with the target 0 is the contrastive loss InfoNCE (van den Oord et al. 2018)
    with the other rows as negatives, also where a process has a part of the rows. A row with the same passage is no
    negative.

    The states of a frozen base never change, so each text passes through the base only once.
    The pair is read as a whole where logits are needed; until then the state is the ids so far, (B, T).
    """

    kind, auto, config_class = "pretrained_vectors", "AutoModelForCausalLM", VectorsConfig

    def __init__(self, config: VectorsConfig) -> None:
        super().__init__(config)
        text = self.body.config.get_text_config()
        depth = text.num_hidden_layers
        if not config.layers or not all(type(layer) is int and 0 <= layer < depth for layer in config.layers):
            raise UsageError(f"layers must be from 0 to {depth - 1}, got {list(config.layers)}.")
        self.projection = Projection(len(config.layers) * text.hidden_size, config.size)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))
        self._states: dict[tuple[str, tuple[int, ...]], Tensor] = {}

    @cached_property
    def reader(self) -> HeadReader:
        """The base as a reader, made once the base is on its device."""
        return HeadReader(self.body)

    def learned(self) -> dict[str, Tensor]:
        """The weights of the projection, and the means and variances of its standard scores."""
        running = {f"projection.{name}": buffer for name, buffer in self.projection.named_buffers()}
        return super().learned() | running

    def vectors(self, texts: Sequence[Sequence[int]], kind: str) -> Tensor:
        """The vectors of texts, given as ids, (N, E) of length one; `kind` is "question" or "passage"."""
        keys = [(kind, tuple(ids)) for ids in texts]
        new = [key for key in dict.fromkeys(keys) if key not in self._states]
        if len(self._states) + len(new) > KEPT:
            self._states.clear()
            new = list(dict.fromkeys(keys))
        if new:
            states = mean_states(self.reader, self.config, [ids for _, ids in new], kind)
            self._states |= dict(zip(new, states, strict=True))
        device = self.projection.linear.weight.device
        vectors: Tensor = self.projection(torch.stack([self._states[key] for key in keys]).to(device), kind)
        return vectors

    def forward(self, ids: Tensor, state: State = None, logits_to_keep: int | None = None) -> tuple[Tensor, State]:
        """ids (B, S) int64 -> logits (B, logits_to_keep, B), the same at each of these tokens, and the ids so far."""
        logits_to_keep = ids.shape[1] if logits_to_keep is None else logits_to_keep
        text = ids if state is None else torch.cat([state, ids], 1)
        if not logits_to_keep:
            return torch.zeros(len(ids), 0, len(ids), device=ids.device), text
        questions, passages = zip(*(self._pair(row) for row in text), strict=True)
        cosines = self.vectors(questions, "question") @ self.vectors(passages, "passage").T
        numbers = {passage: number for number, passage in enumerate(passages)}
        passage = torch.tensor([numbers[passage] for passage in passages], device=cosines.device)
        count = torch.arange(len(text), device=cosines.device)
        repeated = (passage[:, None] == passage) & (count[:, None] != count)
        logits = (cosines * self.log_scale.exp()).masked_fill(repeated, -torch.inf)
        logits = logits.gather(1, (count[:, None] + count) % len(text))
        return logits[:, None].expand(-1, logits_to_keep, -1), text

    def _pair(self, row: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """The ids of the question and of the passage of a row, which padding may precede."""
        ids = row[self.text_start(row) :].tolist()
        end = self.config.suffix[0]
        middle = ids.index(end) if end in ids else len(ids)
        return tuple(ids[:middle]), tuple(ids[middle + 1 :])


def adapt_vectors(
    name: str, precision: str = "fp32", layers: Sequence[int] = (), size: int = SIZE, lora: int | None = None
) -> PretrainedVectors:
    """The causal LM `name` with a projection that has not learned yet.

    Args:
        precision: in which the base is loaded: fp32, bf16 or fp16.
        layers: whose hidden states are read; none for those at `DEPTHS`.
        size: numbers of a vector.

    Raises:
        UsageError: no such model, one that is not causal, or low-rank updates, which would change what it reads.
        UnsupportedModel: its attention does not fit.
    """
    if lora:
        raise UsageError("The vectors of texts are those of the model as it is: leave out `lora`.")
    loaded, base = hub.tokenizer_of(name), hub.config_of(name)
    if kind_of(base) != "pretrained_causal":
        raise UsageError(f"'{name}' is no causal model, so it reads no memory: choose one that is.")
    tokenizer, text = Tokenizer.of_pretrained(loaded), base.get_text_config()
    positions = getattr(text, "max_position_embeddings", None) or 2 * LONGEST + 1
    model = PretrainedVectors(
        VectorsConfig(
            base=str(Path(name).resolve()) if Path(name).is_dir() else name,
            tokenizer_size=tokenizer.size,
            pad=tokenizer.pad,
            suffix=[tokenizer.end],
            window=min(LONGEST, (positions - 1) // 2),  # a question is read twice, behind the sink
            dtype=DTYPES[precision],
            layers=list(layers) or _layers(text.num_hidden_layers),
            size=size,
            sink=sink_of(loaded),
            tokenizer=tokenizer_fingerprint(loaded),
            identity=hub.identity_of(name),
        )
    )
    model.config = replace(model.config, sample=weights_sample(model.body))
    return model


def _layers(depth: int) -> list[int]:
    """The layers at `DEPTHS` of so many."""
    return sorted({round(share * depth) for share in DEPTHS})


def _batches(rows: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
    """The numbers of the rows, those of similar length together so that little is padded, in batches of so many tokens."""
    batches: list[list[int]] = []
    for row in sorted(range(len(rows)), key=lambda row: -len(rows[row])):
        if not batches or (len(batches[-1]) + 1) * len(rows[batches[-1][0]]) > tokens:
            batches.append([])
        batches[-1].append(row)
    return batches
