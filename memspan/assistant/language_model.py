"""A language model with a memory longer than its window: read, search, ask."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from memspan.assistant import asking, prompts
from memspan.assistant.answer import Answer
from memspan.assistant.answer_stream import AnswerStream
from memspan.assistant.answerers.base import Answerer
from memspan.assistant.answerers.local import LocalAnswerer
from memspan.assistant.arguments import check_contents, check_latents, check_memory
from memspan.assistant.asking import Question
from memspan.assistant.carried import Carried, carried_by
from memspan.assistant.condensers import Condensers
from memspan.assistant.confidence import require_confidence, supported
from memspan.assistant.progress import ReadProgress
from memspan.assistant.prompt_budget import default_budget
from memspan.assistant.quotes import PASSAGES, Evidence
from memspan.assistant.reader import TextReader, source_name
from memspan.assistant.retrieved import RetrievedPassage
from memspan.assistant.retriever import RERANKED, Retriever
from memspan.assistant.screen import Screen
from memspan.assistant.spans import Span, SpanReader, span
from memspan.assistant.surroundings import surrounded
from memspan.data.documents import Document
from memspan.data.plain_text import Message
from memspan.errors import UnsupportedModel, UsageError, require_type, require_whole
from memspan.memory import Contents, Filter, Fingerprint, Memory, Passage
from memspan.memory.filter import checked_tags
from memspan.memory.index.calibration import RetrievalHeads, calibrate
from memspan.memory.index.encoder import KeyEncoder
from memspan.memory.index.passage_vectors import VectorEncoder
from memspan.memory.tags import tag
from memspan.models.generate import Sampling
from memspan.pretrained.decoding import CompiledDecoder, Decoder
from memspan.pretrained.heads import HeadReader
from memspan.pretrained.identity import tokenizer_fingerprint, weights_sample
from memspan.pretrained.placement import input_device
from memspan.pretrained.self_test import check_parity
from memspan.pretrained.support import find_causal_lm, why_unsupported
from memspan.pretrained.text_encoder import EncoderSource, ReadingModel
from memspan.pretrained.threads import release_threads

# The lock of each model whose questions take turns; a lock within a model would keep it from being copied.
_TURNS: "WeakKeyDictionary[LanguageModel, threading.Lock]" = WeakKeyDictionary()


class LanguageModel:
    """A causal LM with its tokenizer and retrieval heads. The model passed in is used as it is and never changed.

    Attributes:
        heads: the retrieval heads.
        encoder: encodes texts and questions by the keys and queries of the heads.
        vectors: the sentence encoder, if there is one, before memories that hold its vectors or not.
        reader: appends texts to memories.
        retriever: searches memories.
        decoder: generates token by token.
        answerer: the decoder as an answerer.
        condensers: its trained memory, which turns passages into latents and back.
        prompt_budget: how much retrieved text the model can use.
        fingerprint: of the memories made with this model.
    """

    # The parameters are what a user chooses about a model.
    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        name: str = "model",
        heads: RetrievalHeads | None = None,
        compiled: bool = False,
        identity: str | None = None,
        calibration_progress: Callable[[float], None] | None = None,
        sentence_encoder: EncoderSource | None = None,
        latents: bool | str | Path = False,
    ) -> None:
        """
        Args:
            model: a transformers causal LM of a supported family, or a PEFT model around one.
            tokenizer: its fast tokenizer.
            name: shown to users.
            heads: of an earlier calibration; None calibrates now (seconds to minutes, see `calibrate`).
            compiled: compile the decoding step, see `CompiledDecoder`.
            identity: a hash of the files that the model was loaded from; None identifies it by a sample of its weights.
            calibration_progress: called during a calibration with the share of it that is done, 0 to 1.
            sentence_encoder: whose vectors new memories hold, for a search by meaning; see `memspan.pretrained.encoders`.
            latents: whether new memories hold latents of their passages, see `load_model`.

        Raises:
            UsageError: no transformers model, no fast tokenizer, or heads that the model does not have.
            UnsupportedModel: the model does not support a memory, or fails the parity self-test.
        """
        require_type("model", model, nn.Module, "a transformers model; memspan.load_model(name) loads one by name")
        require_type("heads", heads, (RetrievalHeads, NoneType), "RetrievalHeads")
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise UsageError(f"The tokenizer must be a fast one of transformers, got {type(tokenizer).__name__}.")
        self.causal_lm = _supported(model, name)
        self.model, self.tokenizer, self.name = model, tokenizer, name
        head_reader = HeadReader(model)
        if heads is not None:
            heads.check(head_reader.layers, head_reader.query_heads)
        self.heads = calibrate(head_reader, tokenizer, calibration_progress) if heads is None else heads
        self.encoder = KeyEncoder(head_reader, tokenizer, self.heads.heads)
        sample = weights_sample(model)
        hashes = frozenset((sample, sample if identity is None else identity))
        reading = ReadingModel(head_reader, tokenizer, hashes, name)
        self.vectors = VectorEncoder(None if sentence_encoder is None else sentence_encoder.beside(reading))
        self.decoder: Decoder = (CompiledDecoder if compiled else Decoder)(self.causal_lm, self._stop_tokens())
        weights = None if isinstance(latents, bool) else latents
        self.condensers = Condensers(self.causal_lm, self._stop_tokens(), name, self.decoder, weights)
        self.fingerprint = Fingerprint(
            model=sample if identity is None else identity,
            sample=sample,
            tokenizer=tokenizer_fingerprint(tokenizer),
            dtype=str(self.causal_lm.dtype).removeprefix("torch."),
            heads=self.encoder.key_heads,
            head_size=head_reader.head_size,
            name=name,
            encoder=self.vectors.fingerprint,
            latents=None if latents is False else self.condensers.fingerprint,
        )
        self.answerer = LocalAnswerer(tokenizer, self.decoder, name)
        parameters, on_cpu = self.causal_lm.num_parameters(), input_device(self.causal_lm).type == "cpu"
        self.prompt_budget = default_budget(self.decoder.window, parameters, on_cpu=on_cpu)
        self.reader = TextReader(self.encoder, self.fingerprint, self.vectors, self.condensers)
        self.retriever = Retriever(
            self.causal_lm, tokenizer, self.encoder, self.fingerprint, self.decoder.window, self.vectors
        )

    @cached_property
    def span_reader(self) -> SpanReader:
        """Says how likely words are as an answer."""
        return SpanReader(self.causal_lm, self.tokenizer, sorted(self.decoder.stop), self.decoder.window)

    def new_memory(self, path: str | Path | None = None) -> Memory:
        """An empty memory in RAM; with a path, the memory in that folder, which is made if it does not exist.

        Raises UsageError if the model makes latents, and the memory in the folder was made without.
        """
        memory = Memory(self.fingerprint) if path is None else Memory.open(path, self.fingerprint)
        check_latents(memory, self.fingerprint)
        return memory

    def read(
        self,
        text: str | Document | Iterable[str],
        memory: Memory | None = None,
        *,
        source: str | None = None,
        progress: Callable[[ReadProgress], None] | None = None,
        check: bool = False,
        update: bool = False,
        where: Mapping[str, Any] | None = None,
    ) -> Memory:
        """Reads a text of any length, in constant device memory, to the end of `memory`; returns that memory.

        A source that was read before is continued where reading stopped, so an interrupted call can be repeated, and a
        file that has grown costs only its new part. Each chunk is kept as soon as it is read. A file that was read to
        its end and has the size, the times of change and the path it had then is not opened again.

        Args:
            text: a string, a document of `open_documents`, or the consecutive chunks of one text.
            memory: the memory to append to; None makes a new one in RAM.
            source: the name under which the text is remembered; a document has its own, other texts get "text",
                "text-2" and so on.
            progress: called after each batch of segments, and about twice a second within a batch of a slow model.
            check: compare the text of a file with what was read even if the file seems unchanged.
            update: put a string or document whose text has changed into the position of the earlier text in one commit;
                passages that did not change are not read anew. The whole text is held in RAM meanwhile.
            where: tags of the source, by which searches can be filtered: strings, numbers or lists of them. They take the
                position of those that a source had before.

        Raises:
            ChangedSource: a source of this name begins with another text, and `update` is false.
            ForeignMemory: the memory was made with another model.
        """
        memory = self.new_memory() if memory is None else check_memory(memory)
        if isinstance(text, bytes | bytearray | Mapping):
            raise UsageError(
                f"`text` must be a string, a document or strings, got {type(text).__name__}: decode bytes first."
            )
        require_type("text", text, (str, Document, Iterable), "a string, a document or strings")
        require_type("source", source, (str, NoneType), "a string")
        tags, name = checked_tags(where), source_name(text, source, memory)
        self.reader.read(text, memory, source=name, progress=progress, check=check, update=update)
        if tags and name in memory.sources:
            tag(memory, name, tags)
        return memory

    def remember(self, memory: Memory, text: str, *, source: str, kind: str = "exchange", **meta: Any) -> None:
        """Reads one short, complete text and adds it to the memory in one commit: whole or not at all.

        `meta` are JSON values kept with the source. Raises UsageError if there is a source of this name.
        """
        check_memory(memory)
        require_type("text", text, str, "a string")
        require_type("source", source, str, "a string")
        self.reader.remember(memory, text, source=source, kind=kind, meta=meta)

    def search(
        self,
        memory: Contents | Sequence[Contents],
        question: str,
        *,
        top: int = 8,
        rerank: int = RERANKED,
        around: int = 0,
        among: Callable[[Passage], bool] | None = None,
        filter: Filter | None = None,
        min_confidence: float = 0.0,
    ) -> list[RetrievedPassage]:
        """The `top` passages that bear most on `question`, best first.

        The retrieval heads, BM25 and the sentence encoder rank all passages; the best are ranked anew at a closer look, see
        `memspan.assistant.closer_look`, or, where no encoder knows the question, by its likelihood. The memory is searched as it
        is when the call begins, whatever other threads and processes change meanwhile.

        Args:
            memory: the memory, or a view of it; of several memories one ranking, in which the source "notes.txt" of the
                memory "a.mem" is "a.mem/notes.txt".
            rerank: passages to rank anew, at most, and by likelihood never more than 4; 0 is faster, and a little less exact.
            around: passages before and after each to show with it in one text; passages whose texts overlap become one.
            among: the condition on passages to search, tried from the best on until enough meet it; None searches all.
            filter: the passages to search, and among which the rankings are compared; None searches all.
            min_confidence: of a passage, from 0 to 1: how far it supports an answer to the question, see
                `memspan.assistant.confidence`. Above 0 it is computed, and passages with a smaller one are left out.

        Raises:
            UsageError: the question is empty, or longer than half of the window.
            NoMatch: no passage passes the filter; the sentence says which of its conditions excludes them all.
            ForeignMemory: the memory was made with another model.
        """
        memory = check_contents(memory)
        require_type("question", question, str, "a string")
        require_whole("top", top, least=1)
        require_whole("rerank", rerank, least=0)
        require_whole("around", around, least=0)
        require_type("among", among, (Callable, NoneType), "a function of a passage")  # type: ignore[arg-type]
        require_type("filter", filter, (Filter, NoneType), "a memspan.Filter")
        require_confidence("min_confidence", min_confidence)
        view = memory.view()
        found = self.retriever.search(view, question, top=top, rerank=rerank, among=among, filter=filter)
        if min_confidence > 0:
            found = supported(view, question, found, self.retriever, min_confidence)
        return surrounded(view, found, around)

    # The parameters are the settings of an answer.
    def ask(
        self,
        memory: Contents | Sequence[Contents],
        question: str,
        *,
        budget: int | None = None,
        passages: int | None = None,
        around: int = 0,
        rerank: int = RERANKED,
        sampling: Sampling | None = None,
        filter: Filter | None = None,
        min_confidence: float = 0.0,
        condensed: int = 0,
        memory_weights: str | Path | None = None,
        answerer: Answerer | None = None,
        on_text: Callable[[str], None] | None = None,
        screen: Screen | None = None,
    ) -> Answer:
        """Searches for the passages that bear on the question, reads them in the prompt, and answers.

        Args:
            budget: tokens of retrieved text at most; the best passage is read in any case, as far as the window holds it.
                None takes what the model that answers can use, see `PromptBudget`, as far as it fits into the window.
            passages: retrieved at most; None takes what the model can use.
            rerank, around, filter: as in `search`.
            min_confidence: from 0 to 1. Where the memory supports an answer less, none is written: its text is `SILENCE`, "The
                memory says nothing about this.", and `Answer.is_answered` is false. 0 answers in any case; see
                `memspan.assistant.confidence` for what the number means, and for `MIN_CONFIDENCE`, which the command line uses.
            condensed: further passages that the model reads before the prompt, condensed by its trained memory to a key and
                a value for several tokens; 0 for none. They answer less than passages in the prompt, see
                docs/trained-memory.md.
            memory_weights: of that memory, the folder of a run of `memspan train --task memory`; None for those that come
                with memspan.
            answerer: what writes the answer; None for the model itself.
            on_text: called with the new text of the answer while it is generated.
            screen: what looks at the answer before any of it is shown, and may withhold it.

        Raises:
            UsageError: the memory is empty and `min_confidence` is 0, or the question or the budget does not fit into the
                window; passages are to be condensed, and the model has no trained memory or another answers.
            NoMatch: no passage passes the filter.
        """
        require_type("on_text", on_text, (Callable, NoneType), "a function of a text")  # type: ignore[arg-type]
        sampling = Sampling() if sampling is None else sampling
        how = (sampling, budget, passages, around, rerank, filter, min_confidence, condensed, memory_weights)
        stream = self._stream(memory, Question(question, *how), answerer, screen)
        for part in stream:
            if on_text is not None:
                on_text(part)
        return stream.answer

    def stream(
        self,
        memory: Contents | Sequence[Contents],
        question: str,
        *,
        answerer: Answerer | None = None,
        screen: Screen | None = None,
        **settings: Any,
    ) -> AnswerStream:
        """The answer of `ask` in parts as they are written: an iterator of texts, whose `answer` is complete at the end.

        `settings` are those of `ask` but `on_text`. Searching begins with the first part.
        """
        return self._stream(memory, Question(question, **settings), answerer, screen)

    def span(
        self, memory: Contents | Sequence[Contents], question: str, *, filter: Filter | None = None
    ) -> Span | None:
        """The few words of the memory that answer the question, as they stand there; None where nothing was found.

        The sentence is chosen as for the quote of an answer, the words in it by the likelihood that the model gives them, see
        `memspan.assistant.spans`. Nothing is written.

        Raises UsageError, NoMatch and ForeignMemory as `search` does.
        """
        view = check_contents(memory).view()
        found = self.search(view, question, top=PASSAGES, filter=filter)
        return span(Evidence(view, question, found, self.retriever), self.span_reader)

    async def aask(self, memory: Contents | Sequence[Contents], question: str, **settings: Any) -> Answer:
        """`ask` in a thread, for programs that do other things meanwhile. Questions to one model take turns."""
        return await asyncio.to_thread(self._in_turn, memory, question, settings)

    def ask_all(self, memory: Contents | Sequence[Contents], questions: Iterable[str], **settings: Any) -> list[Answer]:
        """The answers of `ask` to several questions, in their order; they see the memory as it is at the beginning."""
        view = check_contents(memory).view()
        return [self.ask(view, question, **settings) for question in questions]

    def _in_turn(self, memory: Contents | Sequence[Contents], question: str, settings: Mapping[str, Any]) -> Answer:
        with _TURNS.setdefault(self, threading.Lock()):
            try:
                return self.ask(memory, question, **settings)
            finally:
                release_threads()

    def _stream(
        self,
        memory: Contents | Sequence[Contents],
        question: Question,
        answerer: Answerer | None,
        screen: Screen | None,
    ) -> AnswerStream:
        require_type("answerer", answerer, (Answerer, NoneType), "an Answerer")
        require_type("screen", screen, (Screen, NoneType), "a memspan.Screen")
        view = check_contents(memory).view()
        if len(view) == 0 and question.min_confidence == 0:
            raise UsageError("This memory is empty; read something into it first.")
        usable = self.prompt_budget if answerer is None or answerer is self.answerer else None
        if question.condensed and usable is None:
            raise UsageError("Condensed passages are read by the language model itself: let nothing else answer.")
        condenser = self.condensers.of(question.memory_weights) if question.condensed else None
        how = (self.retriever, self.tokenizer, answerer or self.answerer, usable, condenser)
        parts = asking.answering(view, question, *how)
        return AnswerStream(parts if screen is None else screen.screened(question.text, parts))

    def carried_by(self, question: str, answer: Answer) -> tuple[Carried, ...]:
        """Which texts of its prompt carried an answer to `question`: those without which it is least likely first.

        It reads the prompt once more for each text, which can take longer than the answer did.
        """
        require_type("question", question, str, "a string")
        require_type("answer", answer, Answer, "an Answer")
        return carried_by(self.retriever, self.tokenizer, question, answer)

    def prompt_ids(self, message: str | Sequence[Message]) -> list[int]:
        """The ids of a user's message, or of a whole conversation, in the model's chat template if it has one."""
        messages = [{"role": "user", "content": message}] if isinstance(message, str) else message
        return prompts.prompt_ids(self.tokenizer, messages)

    def _stop_tokens(self) -> list[int]:
        configured = self.causal_lm.generation_config.eos_token_id if self.causal_lm.generation_config else None
        stop = configured if isinstance(configured, list) else [configured]
        return [token for token in (*stop, self.tokenizer.eos_token_id) if token is not None]


def _supported(model: nn.Module, name: str) -> Any:
    """The causal LM in a model. Raises UnsupportedModel if it does not support a memory, or fails the parity self-test."""
    causal_lm = find_causal_lm(model)
    why = why_unsupported(causal_lm)
    if why is not None:
        raise UnsupportedModel(why)
    check_parity(causal_lm, name)
    return causal_lm
