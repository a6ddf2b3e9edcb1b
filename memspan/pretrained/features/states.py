"""The hidden states of a pretrained language model or encoder, averaged over a text.

Letters: N texts, B texts of a batch, S tokens, L layers, D width.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from memspan.data.tokenizer import Tokenizer
from memspan.models.saved import model_class
from memspan.pretrained import hub, identity, loading
from memspan.pretrained.adapt import kind_of
from memspan.pretrained.features.base import SAMPLE, DenseFeatures, Floats, Progress, Sources
from memspan.pretrained.features.stored import Stored

# The shares of the layers whose states are averaged over all tokens, and those of which the last token's are taken: it has
# read all others. No single layer is best for every task.
MEANS, LASTS = (1 / 3, 1 / 2, 2 / 3, 5 / 6, 1.0), (1 / 2, 2 / 3, 5 / 6)
WINDOW = 512  # tokens that are read at once: a longer text is read in windows, and all of its tokens are averaged
TOKENS_AT_ONCE = 4096
# Tokens times weights that are read unasked: about ten minutes on two cores (SmolLM2: 500 tokens a second on each).
MINUTES, MOST_WORK = 10, 7e13
MOST_TOKENS = 0.9  # for a character: a model that needs more spells the script out in bytes


class States(DenseFeatures):
    """The mean over the tokens of the states of several layers, and the last token's of three."""

    kind = "states"

    def __init__(self, sources: Sources) -> None:
        super().__init__(sources)
        self._model: Any = None

    def vectors(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        self._load()
        return Stored(self._name).vectors(texts, self._computed, progress)

    def objection(self, texts: Sequence[str]) -> str | None:
        tokenizer, config = (
            Tokenizer.of_pretrained(hub.tokenizer_of(self.sources.base)),
            hub.config_of(self.sources.base),
        )
        sample = texts[:SAMPLE]
        characters = max(1, sum(map(len, sample)))
        per_character = sum(map(len, tokenizer.encode_all(sample))) / characters
        if per_character > MOST_TOKENS:
            return f"{self.sources.base} does not know the script of the texts"
        tokens = per_character * sum(map(len, texts))
        shape = config.get_text_config()
        weights = 12 * int(shape.num_hidden_layers) * int(shape.hidden_size) ** 2  # about
        if tokens * weights > MOST_WORK:
            return f"{self.sources.base} would read {tokens:,.0f} tokens for more than about {MINUTES} minutes"
        return None

    def _load(self) -> None:
        if self._model is not None:
            return
        source, config = hub.find(self.sources.base, weights=True), hub.config_of(self.sources.base)
        auto = model_class(kind_of(config)).auto  # type: ignore[attr-defined]
        device = hub.device_of(None)
        dtype = hub.dtype_of(self.sources.dtype, device)
        loaded = loading.load_weights(auto, source.folder, dtype)
        weights = identity.checksums_of(source.folder, loaded.stored.files)
        files = identity.files_identity(loaded.config, weights)
        model: Any = loaded.model.eval().to(device)
        self._model = model.get_encoder() if config.is_encoder_decoder else model
        self._options = {"logits_to_keep": 1} if kind_of(config) == "pretrained_causal" else {}
        self._tokenizer = Tokenizer.of_pretrained(hub.tokenizer_of(self.sources.base))
        self._name = f"states {MEANS} {LASTS} {WINDOW} {dtype} {source.gguf or files}"

    @torch.inference_mode()
    def _computed(self, texts: Sequence[str]) -> Floats:
        """The vectors of texts, (N, D of all layers together)."""
        windows: list[tuple[int, list[int]]] = []  # the text and the tokens of each
        for number, ids in enumerate(self._tokenizer.encode_all(texts)):
            windows += [(number, ids[first : first + WINDOW] or [0]) for first in range(0, max(1, len(ids)), WINDOW)]
        sums: dict[int, Any] = {}
        lasts: dict[int, tuple[int, Any]] = {}
        order = sorted(range(len(windows)), key=lambda index: len(windows[index][1]))
        for batch in _batches(order, [len(ids) for _, ids in windows]):
            rows = [torch.tensor(windows[index][1]) for index in batch]
            lengths = torch.tensor([len(row) for row in rows])
            means, ends = self._states(rows, lengths)
            for index, length, mean, end in zip(batch, lengths.tolist(), means, ends, strict=True):
                number = windows[index][0]
                total, count = sums.get(number, (0.0, 0))
                sums[number] = (total + mean * length, count + length)
                if index >= lasts.get(number, (-1, None))[0]:
                    lasts[number] = (index, end)
        vectors = [np.concatenate([sums[n][0] / sums[n][1], lasts[n][1]]) for n in range(len(texts))]
        return np.stack(vectors).astype(np.float32)

    def _states(self, rows: Sequence[torch.Tensor], lengths: torch.Tensor) -> tuple[Floats, Floats]:
        """The mean states and the last token's states of windows, (B, L * D) each."""
        ids = pad_sequence(list(rows), batch_first=True).to(self._model.device)
        valid = (torch.arange(ids.shape[1]) < lengths[:, None]).to(ids.device)
        inputs: dict[str, Any] = {
            "input_ids": ids,
            "attention_mask": valid.long(),
            "output_hidden_states": True,
            **self._options,
        }
        states = self._model(**inputs).hidden_states
        last = len(states) - 1
        weights = valid[..., None].float()
        means = [(states[round(share * last)].float() * weights).sum(1) / weights.sum(1) for share in MEANS]
        row = torch.arange(len(ids), device=ids.device)
        ends = [states[round(share * last)][row, lengths.to(ids.device) - 1].float() for share in LASTS]
        return torch.cat(means, 1).cpu().numpy(), torch.cat(ends, 1).cpu().numpy()


def _batches(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Indices in batches of at most TOKENS_AT_ONCE tokens with their padding; `order` is by length."""
    batches: list[list[int]] = []
    for index in order:
        if not batches or (len(batches[-1]) + 1) * lengths[index] > TOKENS_AT_ONCE:
            batches.append([])
        batches[-1].append(index)
    return batches
