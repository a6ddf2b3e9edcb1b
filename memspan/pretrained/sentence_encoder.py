"""Sentence encoders: models that turn a text into one vector, so that texts of similar meaning get similar vectors.

A folder of sentence-transformers (Reimers and Gurevych 2019) is read with transformers alone: `modules.json` names the
steps (the transformer, the pooling of its hidden states, normalisation), and further files their settings. A folder without
it is a transformer whose hidden states are averaged.

Letters: N texts, B texts of a batch, S tokens, E numbers of a vector.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from numpy.typing import NDArray
from torch import Tensor

from memspan.data.plain_text import plain_batch, plain_tokens
from memspan.errors import DamagedFolder, UsageError
from memspan.models.folders import read_json
from memspan.pretrained import identity, loading
from memspan.pretrained.kept_readings import KeptReadings
from memspan.pretrained.model_folder import CONFIG, files_read, read_object
from memspan.pretrained.text_encoder import ReadingModel, ReadText

MODULES = "modules.json"
POOLED = {  # the field of the pooling's configuration -> the method
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",  # nosec B105: a token of a text
    "pooling_mode_lasttoken": "last",
}
LONGEST = 512  # tokens that are encoded at once, whatever more the encoder allows: longer texts are encoded in parts
LONGEST_PROMPT = 1000  # characters
TOKENS_AT_ONCE = 4096  # of a batch, padding included
QUESTIONS_KEPT = 64  # whose vectors are kept: an answer asks for that of its question several times
PADDING_AT_ONCE = 64  # tokens of padding in a batch on a CPU: about what a further batch costs, see LOG.md
# Of the words of a text, the share beyond which the encoder does not know what it is about. Of questions and paragraphs
# outside the benchmarks, MiniLM does not know 0 to 7 % of the words in English and 30 to 100 % in Chinese, see LOG.md.
MOST_UNKNOWN = 0.2
BEGINNING = 0.6  # of a word, which is known if the vocabulary holds so much of it as one part
SPELLED = 4  # characters of a word from which on single characters are not its parts but its spelling

_PATH = re.compile(r"[\w-]*")


@dataclass(frozen=True)
class Pooling:
    """The steps from the hidden states of a text to its vector.

    Attributes:
        method: "mean", "cls" (the first token) or "last" (the last one).
        longest: tokens that are encoded at once, those around the text included.
        query, passage: what stands before a question, and before a passage.
    """

    method: str = "mean"
    longest: int = LONGEST
    query: str = ""
    passage: str = ""


class SentenceEncoder:
    """A sentence encoder with its tokenizer, a model of its own: a `TextEncoder` beside any language model.

    Attributes:
        name, identity, size, scale: as in `TextEncoder`.
    """

    scale: float | None = None

    def __init__(self, model: Any, tokenizer: Any, pooling: Pooling, *, name: str, identity: str) -> None:
        """
        Args:
            model: a transformer of transformers that returns hidden states.
            tokenizer: its fast tokenizer.
        """
        self.name, self.identity, self.pooling = name, identity, pooling
        self.size = int(model.config.hidden_size)
        self._model = model.eval()
        self._kept = KeptReadings(self._read_anew)
        self._kept_question = lru_cache(QUESTIONS_KEPT)(self._question_anew)
        self._around = _special_ids(tokenizer)
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad = tokenizer.pad_token_id or 0
        self._unknown = tokenizer.unk_token_id

    def beside(self, model: ReadingModel) -> "SentenceEncoder":
        """Itself, whatever model reads."""
        return self

    def passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of passages, float32 (N, E), of length one; zeros for one of which too many words are unknown."""
        return self._vectors(texts, self.pooling.passage)

    def question(self, text: str) -> NDArray[np.float32] | None:
        """The vector of a question, float32 (E,), of length one, to be read only; None if too many of its words are unknown."""
        return self._kept_question(text)

    def read(self, texts: Sequence[str]) -> list[ReadText]:
        """The vectors of passages, as `passages` gives them, and the states of their tokens, in one pass; the last are kept."""
        return self._kept(texts)

    def _question_anew(self, text: str) -> NDArray[np.float32] | None:
        vector = self._vectors([text], self.pooling.query)[0]
        vector.flags.writeable = False
        return vector if vector.any() else None

    @torch.inference_mode()
    def _read_anew(self, texts: Sequence[str]) -> list[ReadText]:
        prompt = self.pooling.passage
        parts = sorted(self._encoded(texts, prompt), key=lambda part: part.number)
        vectors = self._means(parts, len(texts))
        states: list[list[Tensor]] = [[] for _ in texts]
        for part in parts:
            states[part.text].append(part.states)
        return [
            self._read(vector, hidden, plain_tokens(self._tokenizer, prompt + text)[1], len(prompt))
            for vector, hidden, text in zip(vectors, states, texts, strict=True)
        ]

    def _read(
        self, vector: NDArray[np.float32], states: list[Tensor], spans: Sequence[tuple[int, int]], before: int
    ) -> ReadText:
        """A text with its vector and the states of its parts, without the `before` characters of the prompt."""
        if not states:
            return ReadText(vector, np.zeros((0, self.size), np.float32), [])
        own = [index for index, (start, _) in enumerate(spans) if start >= before]
        unit = torch.nn.functional.normalize(torch.cat(states)[own], dim=-1).cpu().numpy()
        return ReadText(vector, unit, [(spans[index][0] - before, spans[index][1] - before) for index in own])

    def knows(self, word: str) -> bool:
        """Whether a part of the vocabulary is most of a word, from its beginning on: "calvin" of "Calvinist"."""
        encoding = self._tokenizer.encode(word, add_special_tokens=False)
        begun = encoding.offsets[0][1] if encoding.ids and encoding.ids[0] != self._unknown else 0
        return begun >= BEGINNING * len(word)

    def unknown_share(self, text: str) -> float:
        """The share of the words of a text that the vocabulary does not know, 0 to 1.

        A word is unknown if a part of it is, or if the tokenizer can only spell it, character by character. What a word is
        the tokenizer says, which may be a single character of a script that is written without spaces.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        words = unknown = 0
        tokens = zip(encoding.ids, encoding.offsets, encoding.word_ids, strict=True)
        for _, parts in groupby(tokens, key=lambda token: token[2]):
            ids, spans, _ = zip(*parts, strict=True)
            if not any(character.isalnum() for character in text[spans[0][0] : spans[-1][1]]):
                continue
            is_spelled = len(ids) >= SPELLED and all(end - start <= 1 for start, end in spans)
            words += 1
            unknown += self._unknown in ids or is_spelled
        return unknown / max(1, words)

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self._model.parameters()).device
        return device

    @torch.inference_mode()
    def _vectors(self, texts: Sequence[str], prompt: str) -> NDArray[np.float32]:
        """The vectors of texts."""
        return self._means(self._encoded(texts, prompt), len(texts))

    def _means(self, parts: Iterable["_Part"], texts: int) -> NDArray[np.float32]:
        """The vectors of texts, the mean of those of their parts where they are too long, weighted by tokens."""
        sums = np.zeros((texts, self.size), np.float32)
        for part in parts:
            sums[part.text] += part.vector * part.tokens
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        sums /= np.where(lengths > 0, lengths, 1)
        return sums

    def _encoded(self, texts: Sequence[str], prompt: str) -> Iterator["_Part"]:
        """The parts of the texts of which enough words are known, in any order."""
        before, behind = self._around
        room = self.pooling.longest - len(before) - len(behind)
        rows, owners = [], []
        for number, ids in enumerate(plain_batch(self._tokenizer, [prompt + text for text in texts])):
            if self.unknown_share(texts[number]) > MOST_UNKNOWN:
                continue
            for part in _parts(ids, room):
                rows.append([*before, *part, *behind])
                owners.append(number)
        for batch in _batches(rows, PADDING_AT_ONCE if self._device.type == "cpu" else TOKENS_AT_ONCE):
            hidden, vectors = self._hidden([rows[row] for row in batch])
            for row, states, vector in zip(batch, hidden, vectors, strict=True):
                end = len(rows[row]) - len(behind)
                yield _Part(owners[row], row, len(rows[row]), vector, states[len(before) : end])

    def _hidden(self, rows: Sequence[list[int]]) -> tuple[Tensor, NDArray[np.float32]]:
        """The hidden states of rows of ids, (B, S, E), and their vectors, (B, E), of length one."""
        longest = max(map(len, rows))
        ids = torch.tensor([row + [self._pad] * (longest - len(row)) for row in rows], device=self._device)
        lengths = torch.tensor([len(row) for row in rows], device=self._device)
        mask = (torch.arange(longest, device=self._device) < lengths[:, None]).long()
        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        pooled = _pool(hidden, mask, self.pooling.method)
        return hidden, torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()


@dataclass(frozen=True)
class _Part:
    """As much of a text as is encoded at once.

    Attributes:
        text, number: the number of the text, and of the part among those of all texts.
        tokens: those around it included.
        vector: (E,), of length one.
        states: of its own tokens, (S, E).
    """

    text: int
    number: int
    tokens: int
    vector: NDArray[np.float32]
    states: Tensor


def _pool(hidden: Tensor, mask: Tensor, method: str) -> Tensor:
    """(B, S, E) -> (B, E), over the tokens that `mask` (B, S) counts."""
    if method == "cls":
        return hidden[:, 0]
    if method == "last":
        return hidden[torch.arange(len(hidden)), mask.sum(1) - 1]
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def _special_ids(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The ids that the tokenizer puts before and behind a text."""
    inner = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    first = next((start for start in range(len(whole)) if whole[start : start + len(inner)] == inner), 0)
    return list(whole[:first]), list(whole[first + len(inner) :])


def _parts(ids: list[int], room: int) -> Iterator[list[int]]:
    """The ids in parts of about the same length, each of at most `room`."""
    count = max(1, -(-len(ids) // room))
    edges = [round(number * len(ids) / count) for number in range(count + 1)]
    return (ids[first:end] for first, end in pairwise(edges))


def _batches(rows: Sequence[list[int]], padding: int) -> Iterator[list[int]]:
    """The numbers of the rows, those of similar length together, so that at most `padding` tokens of a batch are padding."""
    batch: list[int] = []
    padded = 0
    for row in sorted(range(len(rows)), key=lambda row: -len(rows[row])):
        longest = len(rows[batch[0] if batch else row])
        padded += longest - len(rows[row])
        if batch and (padded > padding or (len(batch) + 1) * longest > TOKENS_AT_ONCE):
            yield batch
            batch, padded = [], 0
        batch.append(row)
    if batch:
        yield batch


# ---- folders


def load_folder(
    folder: Path, name: str, device: torch.device, dtype: torch.dtype, digest: str | None = None
) -> SentenceEncoder:
    """The sentence encoder in a folder.

    Args:
        digest: identifies the files; None computes it from them.

    Raises:
        UsageError: no such folder, or an encoder with steps that are not known.
        DamagedFolder: files that cannot be read, or that do not fit each other.
    """
    transformer, pooling = _steps(folder)
    loaded = loading.load_weights("AutoModel", transformer, dtype)
    tokenizer = loading.load_tokenizer(transformer)
    loading.check_vocabulary(transformer, loaded.model, tokenizer)
    pooling = _limited(pooling, loaded.model.config, tokenizer)
    if digest is None:
        weights = identity.checksums_of(transformer, loaded.stored.files)
        vocabulary = identity.tokenizer_fingerprint(tokenizer)
        digest = identity.files_identity(loaded.config, {**weights, "tokenizer": vocabulary})
    whole = hashlib.sha256(f"{digest} {json.dumps(asdict(pooling))}".encode()).hexdigest()
    return SentenceEncoder(loaded.model.to(device), tokenizer, pooling, name=name, identity=whole)


def _steps(folder: Path) -> tuple[Path, Pooling]:
    """The folder of the transformer, and the steps behind it."""
    files_read(folder)
    settings = _settings(folder)
    if not (folder / MODULES).exists():
        return folder, Pooling(**settings)
    try:
        modules = read_json(folder / MODULES)
        steps = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DamagedFolder(f"{folder / MODULES} must list the steps of a sentence encoder, got: {error}.") from error
    unknown = sorted(steps.keys() - {"Transformer", "Pooling", "Normalize"})
    if unknown or "Transformer" not in steps:
        raise UsageError(
            f"{folder} is a sentence encoder with a step that memspan does not know: {', '.join(unknown) or 'no transformer'}. "
            "Give another with --encoder."
        )
    if any(_PATH.fullmatch(path) is None for path in steps.values()):
        raise DamagedFolder(
            f"{folder / MODULES} names a path outside of its folder: copy or download the encoder again."
        )
    transformer = folder / steps["Transformer"]
    files_read(transformer)
    settings |= _settings(transformer)
    if "Pooling" in steps:
        settings["method"] = _pooling_method(folder / steps["Pooling"] / CONFIG)
    return transformer, Pooling(**settings)


def _settings(folder: Path) -> dict[str, Any]:
    """The prompts and the length that the files of a folder set."""
    settings: dict[str, Any] = {}
    if (folder / "sentence_bert_config.json").exists():
        longest = read_object(folder / "sentence_bert_config.json").get("max_seq_length")
        if type(longest) is int and longest > 0:
            settings["longest"] = longest
    if (folder / "config_sentence_transformers.json").exists():
        prompts = read_object(folder / "config_sentence_transformers.json").get("prompts")
        for kind, names in (("query", ("query",)), ("passage", ("passage", "document"))):
            found = [prompts[name] for name in names if isinstance(prompts, dict) and prompts.get(name)]
            if found and isinstance(found[0], str) and len(found[0]) <= LONGEST_PROMPT:
                settings[kind] = found[0]
    return settings


def _pooling_method(config: Path) -> str:
    """The one method that a pooling's configuration names. Raises UsageError for another."""
    fields = read_object(config)
    named = [method for field, method in POOLED.items() if fields.get(field) is True]
    other = [
        field for field in fields if field.startswith("pooling_mode_") and fields[field] is True and field not in POOLED
    ]
    if isinstance(fields.get("pooling_mode"), str):  # of newer releases
        named = [method for method in POOLED.values() if fields["pooling_mode"].startswith(method)]
    if len(named) != 1 or other:
        raise UsageError(
            f"{config} must name one pooling of {', '.join(POOLED.values())}, got {', '.join([*named, *other]) or 'none'}: "
            "give another encoder with --encoder."
        )
    return named[0]


def _limited(pooling: Pooling, config: Any, tokenizer: Any) -> Pooling:
    """The steps with a length that the model, its tokenizer and memory allow."""
    limits = [LONGEST, pooling.longest, tokenizer.model_max_length]
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int):
        offset = (config.pad_token_id or 0) + 1 if "roberta" in config.model_type else 0
        limits.append(positions - offset)
    longest = max(16, min(limits))
    return Pooling(pooling.method, longest, pooling.query, pooling.passage)
