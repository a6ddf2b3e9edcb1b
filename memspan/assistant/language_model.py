"""A language model with a memory longer than its window: read, search, ask."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from memspan.data.documents import Document, in_pieces
from memspan.errors import MemspanError, UnsupportedModel, UsageError
from memspan.memory import EncodedText, Fingerprint, Memory, Passage
from memspan.memory.index.bm25 import without_question_words
from memspan.memory.index.calibration import RetrievalHeads, calibrate
from memspan.memory.index.encoder import CONTEXT, Encoded, KeyEncoder
from memspan.memory.index.head_scores import best, fuse, head_scores, token_scores
from memspan.memory.store.folder import refuse_foreign
from memspan.models.generate import Sampling
from memspan.pretrained import hub
from memspan.pretrained.attach import find_causal_lm, parity_difference, rounding_difference, why_unsupported
from memspan.pretrained.decoding import CompiledDecoder, Decoder
from memspan.pretrained.heads import HeadReader

# Each measured on questions outside the benchmarks, see LOG.md.
BUDGET = 640  # tokens of recalled text in a prompt
MAX_SCORE_GAP = 1.0  # a passage whose score is further behind the best one's distracts a small model more than it helps
RERANKED = 16  # passages whose likelihood is computed, at most
LIKELIHOOD_WEIGHT = 4.0  # of a nat per token, against a standard deviation of the other rankers
RERANK_GAP = 8.0  # so far behind the first, a passage is not weighed: its likelihood would not make up for it

RERANK_BATCH = 4  # of like length, so that little is padded

ASKS = "Answer from the text above, in a few words: {question}"
PARITY = 1e-4  # what a memory that holds everything may change in a logit, beyond rounding


@dataclass(frozen=True)
class ReadProgress:
    """How far reading has come: tokens and characters of this source, and of how many bytes (None: unknown)."""

    source: str
    tokens: int
    characters: int
    size: int | None


@dataclass(frozen=True)
class RetrievedPassage:
    """A recalled passage and where it stands.

    Attributes:
        start, end: character offsets in the source.
        score: what passages are ranked by: how far it stands out from all passages of the memory, in standard deviations
            summed over the rankers, plus the weighted gain.
        gain: by how many nats per token it makes the question likelier than no text does; None if that was not computed.
        number: of the passage in the memory.
    """

    source: str
    start: int
    end: int
    score: float
    text: str
    tokens: int
    number: int
    gain: float | None = None


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it was reminded of before."""

    text: str
    passages: tuple[RetrievedPassage, ...]
    memory_tokens: int
    prompt_tokens: int
    answer_tokens: int
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON values: answer, passages, memory_tokens, prompt_tokens, answer_tokens, seconds."""
        record = asdict(self)
        return {"answer": record.pop("text"), **record}


class LanguageModel:
    """A causal LM, its tokenizer and its retrieval heads. The model passed in is used as it is and never changed."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str = "model",
        heads: RetrievalHeads | None = None,
        compiled: bool = False,
    ) -> None:
        """
        Args:
            model: a transformers causal LM of a supported family, or a PEFT model around one.
            tokenizer: its fast tokenizer.
            heads: of an earlier calibration; None calibrates now (seconds to minutes, see `calibrate`).
            compiled: compile the step that writes a token, see `CompiledDecoder`.

        Raises:
            UnsupportedModel: the model cannot be given a memory, or fails the parity self-test.
        """
        self.causal_lm = find_causal_lm(model)
        why = why_unsupported(self.causal_lm)
        if why is not None:
            raise UnsupportedModel(why)
        _check_parity(self.causal_lm, name)
        self.model, self.tokenizer, self.name = model, tokenizer, name
        self._reader = HeadReader(model)
        self.heads = calibrate(self._reader, tokenizer) if heads is None else heads
        self._encoder = KeyEncoder(self._reader, tokenizer, self.heads.heads)
        decoder = CompiledDecoder if compiled else Decoder
        self.decoder: Decoder = decoder(self.causal_lm, self._stop_tokens())
        self.fingerprint = Fingerprint(
            model=hub.weights_fingerprint(model),
            tokenizer=hub.tokenizer_fingerprint(tokenizer),
            dtype=str(self.causal_lm.dtype).removeprefix("torch."),
            heads=self._encoder.key_heads,
            head_size=self._reader.head_size,
            name=name,
        )

    # ---- reading

    def new_memory(self, path: str | Path | None = None) -> Memory:
        """An empty memory for this model, in RAM; with a path, the one in that folder, made if it is not there yet."""
        return Memory(self.fingerprint) if path is None else Memory.open(path, self.fingerprint)

    def read(
        self,
        text: str | Document | Iterable[str],
        memory: Memory | None = None,
        *,
        source: str | None = None,
        progress: Callable[[ReadProgress], None] | None = None,
    ) -> Memory:
        """Reads a text of any length, in constant device memory, to the end of `memory`; returns that memory.

        A source that was read before is continued where reading stopped, so an interrupted call can be repeated, and a
        file that has grown costs only what is new. Each piece is kept as soon as it is read.

        Args:
            text: a string, a document of `open_documents`, or the consecutive pieces of one text.
            memory: what to append to; None makes a new one in RAM.
            source: the name under which the text is remembered; a document has its own, other texts get "text",
                "text-2" and so on.

        Raises:
            UsageError: a source of this name begins with another text.
        """
        memory = self.new_memory() if memory is None else memory
        self._check_fingerprint(memory)
        size = text.size if isinstance(text, Document) else None
        name = self._source_name(text, source, memory)
        pieces = _pieces(text)
        old = memory.sources.get(name)
        done = 0 if old is None else old.characters
        fresh = _rest(pieces, name, done, None if old is None else old.sha256)
        before: list[int] = [] if old is None else _last_ids(memory, name)
        tokens, current = 0, next(fresh, None)
        while current is not None:
            encoded = self._encoder.encode(current, before)
            try:
                following = next(fresh, None)
            except BaseException:  # whatever stops the stream, also Ctrl-C: what was read is kept
                memory.append([_piece(encoded, current, source=name, start=done, complete=False)])
                raise
            memory.append([_piece(encoded, current, source=name, start=done, complete=following is None)])
            before = [*before, *encoded.ids.tolist()][-CONTEXT:]
            done, tokens, current = done + len(current), tokens + len(encoded.ids), following
            if progress is not None:
                progress(ReadProgress(name, tokens, done, size))
        return memory

    def remember(self, memory: Memory, text: str, *, source: str, kind: str = "exchange", **meta: Any) -> None:
        """Reads one short text that is complete in itself and adds it to the memory in one commit: whole or not at all.

        `meta` are JSON values kept with the source. Raises UsageError if there is a source of this name.
        """
        self._check_fingerprint(memory)
        encoded = self._encoder.encode(text)
        memory.append([_piece(encoded, text, source=source, start=0, complete=True, kind=kind, meta=meta)])

    # ---- recalling

    def search(
        self,
        memory: Memory,
        question: str,
        *,
        top: int = 8,
        rerank: int = RERANKED,
        among: Callable[[Passage], bool] | None = None,
    ) -> list[RetrievedPassage]:
        """The `top` passages that bear most on `question`, best first.

        The retrieval heads and BM25 rank all passages; of the best `rerank`, the model weighs how likely each makes the
        question. 0 leaves that out: faster, and a little less exact.
        """
        self._check_fingerprint(memory)
        self._check_length(question)
        if len(memory) == 0:
            return []
        scores = fuse(*self._ranked(memory, question))
        numbers = best(scores, max(top, rerank) if among is None else len(scores))
        if among is not None:
            numbers = [number for number in numbers if among(memory.passage(number))][: max(top, rerank)]
        found = [_recollection(memory.passage(number), float(scores[number])) for number in numbers]
        if rerank > 0 and found:
            found = self._reranked(question, found, rerank)
        return found[:top]

    def token_scores(self, memory: Memory, question: str, numbers: Sequence[int]) -> list[NDArray[np.float32]]:
        """How strongly the retrieval heads point from `question` at each token of the passages `numbers`: (T,) each."""
        self._check_fingerprint(memory)
        return token_scores(self._encoder.question(question), memory.blocks(), numbers)

    def rankings(self, memory: Memory, question: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What the retrieval heads, and the words, contribute to the score of each passage: (P,) both."""
        self._check_fingerprint(memory)
        heads, words = self._ranked(memory, question)
        nothing = np.zeros_like(heads)
        return fuse(heads, nothing), fuse(nothing, words)

    def _ranked(self, memory: Memory, question: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The scores of each passage by the retrieval heads and by the words, (P,) both."""
        heads = head_scores(self._encoder.question(question), memory.blocks())
        return heads, memory.word_scores(without_question_words(question))

    def _reranked(self, question: str, found: list[RetrievedPassage], count: int) -> list[RetrievedPassage]:
        """Those of the first `count` that are within reach in a new order, by likelihood too; behind them the others."""
        count = sum(one.score > found[0].score - RERANK_GAP for one in found[:count])
        gains = self._likelihood_gains(question, [one.text for one in found[:count]])
        weighed = [
            replace(one, gain=gain, score=one.score + LIKELIHOOD_WEIGHT * gain)
            for one, gain in zip(found, gains, strict=False)
        ]
        return sorted(weighed, key=lambda one: -one.score) + found[count:]

    @torch.inference_mode()
    def _likelihood_gains(self, question: str, texts: Sequence[str]) -> list[float]:
        """By how many nats per token each text makes the question likelier than no text does."""
        asked = self.tokenizer(" " + question.strip(), add_special_tokens=False)["input_ids"]
        lead = [self.tokenizer(_lead(text), add_special_tokens=False)["input_ids"] for text in ("", *texts)]
        room = self.decoder.window - len(asked)
        rows = [[*ids[-room:], *asked] for ids in lead]
        order = sorted(range(len(rows)), key=lambda number: len(rows[number]))
        means = [0.0] * len(rows)
        for first in range(0, len(order), RERANK_BATCH):
            numbers = order[first : first + RERANK_BATCH]
            batch = self._mean_log_likelihoods([rows[number] for number in numbers], len(asked))
            for number, mean in zip(numbers, batch, strict=True):
                means[number] = mean
        return [mean - means[0] for mean in means[1:]]

    def _mean_log_likelihoods(self, rows: Sequence[list[int]], count: int) -> list[float]:
        """The mean log-probability of the last `count` tokens of each row."""
        longest = max(len(row) for row in rows)
        pad = self.tokenizer.pad_token_id
        pad = 0 if pad is None else pad
        ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=self.causal_lm.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.causal_lm.device)
        logits = self.causal_lm(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=count + 1).logits[
            :, :-1
        ]
        means: list[float] = logits.float().log_softmax(-1).gather(2, ids[:, -count:, None])[..., 0].mean(1).tolist()
        return means

    # ---- answering

    def ask(
        self,
        memory: Memory,
        question: str,
        *,
        budget: int = BUDGET,
        rerank: int = RERANKED,
        sampling: Sampling | None = None,
        on_text: Callable[[str], None] | None = None,
    ) -> Answer:
        """Recalls what bears on the question, reads it again in the window, and answers.

        Args:
            budget: tokens of recalled text at most; the best passage is read in any case.
            on_text: gets the answer piece by piece while it is written.

        Raises:
            UsageError: the memory is empty, or the question does not fit into the window.
        """
        if len(memory) == 0:
            raise UsageError("This memory is empty; read something into it first.")
        sampling = Sampling() if sampling is None else sampling
        begun = time.perf_counter()
        found = within_budget(self.search(memory, question, rerank=rerank), budget)
        recalled = time.perf_counter()
        ids = self.prompt_ids(question_message(question, [one.text for one in found]))
        tokens = []
        text = ""
        for token in self.decoder.generate(ids, sampling):
            tokens.append(token)
            if on_text is not None:
                grown = self.tokenizer.decode(tokens, skip_special_tokens=True)
                if not grown.endswith("\ufffd"):
                    on_text(grown[len(text) :])
                    text = grown
        text = self.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        seconds = {"recall": recalled - begun, "answer": time.perf_counter() - recalled}
        return Answer(text, tuple(found), memory.tokens, len(ids), len(tokens), seconds)

    def prompt_ids(self, message: str | list[dict[str, str]]) -> list[int]:
        """The ids of a user's message, or of a whole conversation, in the model's chat template if it has one."""
        messages = [{"role": "user", "content": message}] if isinstance(message, str) else message
        if getattr(self.tokenizer, "chat_template", None) is None:
            text = "\n\n".join(f"{one['role'].capitalize()}: {one['content']}" for one in messages) + "\n\nAssistant:"
            return list(self.tokenizer(text)["input_ids"])
        encoded = self.tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
        return list(encoded["input_ids"])

    # ---- inner workings

    def _stop_tokens(self) -> list[int]:
        configured = self.causal_lm.generation_config.eos_token_id if self.causal_lm.generation_config else None
        stop = configured if isinstance(configured, list) else [configured]
        return [token for token in (*stop, self.tokenizer.eos_token_id) if token is not None]

    def _check_fingerprint(self, memory: Memory) -> None:
        refuse_foreign("this memory" if memory.path is None else str(memory.path), memory.fingerprint, self.fingerprint)

    def _check_length(self, question: str) -> None:
        """A question takes at most half of the window; the rest is for what is recalled, and for the answer."""
        length = len(self.tokenizer(question, add_special_tokens=False, verbose=False)["input_ids"])
        if length > self.decoder.window // 2:
            raise UsageError(
                f"The question has {length} tokens, more than half of the model's window of {self.decoder.window}: shorten it, "
                "or read the long part into the memory as a document and ask about it."
            )

    def _source_name(self, text: str | Document | Iterable[str], source: str | None, memory: Memory) -> str:
        if source is not None:
            return source
        if isinstance(text, Document):
            return text.source
        taken, count = set(memory.sources), 1
        while (name := "text" if count == 1 else f"text-{count}") in taken:
            count += 1
        return name


def load_model(
    name: str = hub.DEFAULT,
    *,
    device: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    compiled: bool = False,
    recalibrate: bool = False,
) -> LanguageModel:
    """A language model by name: `smollm2` (embedded), a Hugging Face id, a local folder, or a GGUF file.

    The retrieval heads are calibrated once and stored with the cached model.

    Args:
        device: a torch device; None takes CUDA where there is one, else the CPU.
        dtype: auto, float32, bfloat16 or float16.
        trust_remote_code: run code that comes with the model.
        compiled: compile the step that writes a token: slow to start, faster afterwards.
        recalibrate: choose the retrieval heads anew.

    Raises:
        UsageError: no such model; the message says what to do.
        UnsupportedModel: it cannot be given a memory; the message says why.
    """
    model, tokenizer, folder = hub.load(name, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    fingerprint = hub.weights_fingerprint(model)
    place = hub.cache_folder() / "heads" / f"{fingerprint[:32]}.json" if folder is None else folder / "heads.json"
    heads = None if recalibrate else _stored_heads(place)
    if heads is None and not recalibrate and name in hub.EMBEDDED:
        heads = RetrievalHeads(*hub.EMBEDDED[name].heads)
    lm = LanguageModel(model, tokenizer, name=name, heads=heads, compiled=compiled)
    if heads is None:
        place.parent.mkdir(parents=True, exist_ok=True)
        lm.heads.save(place)
    return lm


def within_budget(found: Sequence[RetrievedPassage], budget: int) -> list[RetrievedPassage]:
    """The first, and those whose score comes near its own as far as they fit into `budget` tokens, best first."""
    chosen: list[RetrievedPassage] = []
    for one in found:
        near = one.score > found[0].score - MAX_SCORE_GAP
        if not chosen or (near and sum(other.tokens for other in chosen) + one.tokens <= budget):
            chosen.append(one)
    return chosen


def question_message(question: str, texts: Sequence[str], asks: str = ASKS) -> str:
    """What the model is asked. Recalled text is quoted as data in the user's message, never as an instruction."""
    quoted = "\n\n".join(text.strip() for text in texts)
    return f"{question}\n\n{quoted}\n\n{asks.format(question=question)}"


def _lead(text: str) -> str:
    return f"{text.strip()}\n\nQuestion answered by this text:"


def _recollection(passage: Passage, score: float) -> RetrievedPassage:
    return RetrievedPassage(
        passage.source, passage.start, passage.end, score, passage.text, passage.tokens, passage.number
    )


def _piece(encoded: Encoded, text: str, **record: Any) -> EncodedText:
    return EncodedText(
        text=text,
        ids=encoded.ids,
        keys=encoded.keys,
        scales=encoded.scales,
        passages=encoded.passages,
        **record,
    )


def _pieces(text: str | Document | Iterable[str]) -> Iterator[str]:
    if isinstance(text, Document):
        return text.pieces()
    return in_pieces([text] if isinstance(text, str) else text)


def _rest(pieces: Iterator[str], name: str, done: int, sha256: str | None) -> Iterator[str]:
    """What follows the first `done` characters, after checking that these are the ones read before."""
    digest, passed = hashlib.sha256(), 0
    for piece in pieces:
        old = piece[: max(0, done - passed)]
        digest.update(old.encode())
        passed += len(piece)
        if sha256 is not None and passed >= done:
            if digest.hexdigest() != sha256:
                raise UsageError(
                    f"'{name}' is not the text that was read before under this name; `memspan forget` it first, or give "
                    "this one another name with --as."
                )
            sha256 = None
        if piece[len(old) :]:
            yield piece[len(old) :]
    if sha256 is not None and done > 0:
        raise UsageError(f"'{name}' is shorter than what was read before under this name; `memspan forget` it first.")


def _last_ids(memory: Memory, name: str) -> list[int]:
    """The last ids read of a source."""
    numbers = [number for number in range(len(memory) - 1, -1, -1) if memory.passage(number).source == name][:2]
    return np.concatenate([memory.ids(number) for number in reversed(numbers)]).tolist() if numbers else []


def _stored_heads(place: Path) -> RetrievalHeads | None:
    try:
        return RetrievalHeads.load(place)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MemspanError(f"{place} is damaged ({error}); delete it, and the heads are calibrated again.") from error


def _check_parity(model: Any, name: str) -> None:
    """Refuses a model whose attention, given a memory that holds everything, does not compute what it computed before.

    What counts as different is measured on the model itself: how far its own cache moves its logits by rounding.
    """
    difference, rounding = parity_difference(model), rounding_difference(model)
    if not difference <= PARITY + 4 * rounding:
        raise UnsupportedModel(
            f"{name} fails the self-test: with a memory attached its logits differ by {difference:.2g} although nothing was "
            f"evicted (its own cache: {rounding:.2g}). `memspan models --families` lists the families that pass."
        )
