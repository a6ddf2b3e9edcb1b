"""The tool `file_search` of /v1/responses: vector stores are searched for the user's message, and the reply cites their files.

Small models call no tools of their own accord, so that the search is made for every message of a request with the tool. What it
finds stands in the prompt as the passages of a question do. A sentence of the reply has a citation where most of what it says, by
the weight of its words, stands in one of these passages, or where the model has set the mark of a passage.
"""

import glob
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from memspan.assistant.citations import citations
from memspan.assistant.confidence import MIN_CONFIDENCE
from memspan.assistant.prompt_choice import in_reading_order
from memspan.assistant.prompts import Quotable, question_message
from memspan.assistant.rare_words import RareWords
from memspan.assistant.retrieved import RetrievedPassage
from memspan.data.chunking import sentence_spans
from memspan.memory import Filter, Passage, SourceRecord, View
from memspan.memory.context import with_context
from memspan.memory.union import united
from memspan.serve.attribute_filters import AttributeFilter, passes
from memspan.serve.library import Library
from memspan.serve.recall import scored_passages
from memspan.serve.replies import ApiError
from memspan.serve.requests import Strict
from memspan.serve.store_objects import attributes_of, file_id_of
from memspan.serve.vector_stores import MOST_RESULTS, Ranking, require_store

MOST_STORES = 8
LEAST_SHARED = 0.6  # of the weight of a sentence's words, that a passage which it cites holds
NOTHING_FOUND = "I looked in my files and found nothing about this."  # before a message, in the user's words


def _only_file_search(kind: object) -> object:
    if kind != "file_search":
        raise ValueError("only the tool file_search is supported here: leave the others out.")
    return kind


class FileSearchTool(Strict):
    """The tool as a request has it."""

    type: Annotated[Literal["file_search"], BeforeValidator(_only_file_search)]
    vector_store_ids: Annotated[list[str], Field(min_length=1, max_length=MOST_STORES)]
    filters: AttributeFilter | None = None
    max_num_results: Annotated[int, Field(ge=1, le=MOST_RESULTS)] | None = None
    ranking_options: Ranking | None = None


class ToolChoice(Strict):
    """The tool that must be used."""

    type: Annotated[Literal["file_search"], BeforeValidator(_only_file_search)]


@dataclass(frozen=True)
class FileSearch:
    """A search that a turn begins with.

    Attributes:
        stores: the names of the vector stores.
        top: passages at most.
        least: the smallest confidence that the client wants; None if it does not say.
        is_required: whether the reply must rest on what is found.
    """

    stores: tuple[str, ...]
    filters: AttributeFilter | None = None
    top: int = 10
    least: float | None = None
    is_required: bool = False

    def found(self, library: Library, owner: str, query: str) -> "Searched":
        """What a search finds. It uses the model.

        Raises:
            UnknownMemory: a store was deleted meanwhile.
            ApiError: the filters are not what they must be.
        """
        views = [view for store in self.stores if len(view := library.open(owner, store).view()) > 0]
        strict = self.is_required or self.least is not None
        allowed = [self._allowed(view) for view in views]
        if not any(allowed):
            return Searched(query, is_strict=strict)
        view, origins = united(views), _Origins(views)

        def is_allowed(passage: Passage) -> bool:  # two stores may have a source of the same name
            number, record = origins.of(passage.number)
            return record.name in allowed[number]

        names = [glob.escape(name) for name in sorted(set().union(*allowed))]
        filter, among = (None, None) if self.filters is None else (Filter(names), is_allowed)
        least = MIN_CONFIDENCE if self.least is None else self.least
        passages = scored_passages(library.lm, view, query, top=self.top, filter=filter, min_score=least, among=among)
        records = [origins.of(passage.number)[1] for passage in passages]
        named = [
            replace(passage, source=record.name) if origins.is_unique(record.name) else passage
            for passage, record in zip(passages, records, strict=True)
        ]
        return Searched(query, tuple(named), tuple(records), view, strict)

    def _allowed(self, view: View) -> set[str]:
        """The names of the sources of a view whose attributes meet the filters."""
        if self.filters is None:
            return set(view.sources)
        return {name for name, record in view.sources.items() if passes(self.filters, attributes_of(record))}


class _Origins:
    """Where the passages of a united view come from."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views, self._ends = views, np.cumsum([len(view) for view in views])

    def of(self, number: int) -> tuple[int, SourceRecord]:
        """The index of the view that a passage is from, and the record of its source there."""
        index = int(np.searchsorted(self._ends, number, side="right"))
        view = self._views[index]
        passage = view.passage(number - int(self._ends[index]) + len(view))
        return index, view.sources[passage.source]

    def is_unique(self, source: str) -> bool:
        """Whether one view alone has a source of this name."""
        return sum(source in view.sources for view in self._views) == 1


@dataclass(frozen=True)
class Searched:
    """What a search has found.

    Attributes:
        query: what was searched for.
        passages: best first, each with its confidence.
        records: of the source of each, as its own store has it.
        view: of all stores; None where nothing was searched.
        is_strict: whether nothing is to be answered that no passage supports.
    """

    query: str
    passages: tuple[RetrievedPassage, ...] = ()
    records: tuple[SourceRecord, ...] = field(default=(), repr=False)
    view: View | None = field(default=None, repr=False)
    is_strict: bool = False

    @property
    def chat_options(self) -> dict[str, Any]:
        """Arguments of `Chat` by which what was found enters its prompts."""
        return {"found": self.passages, "message_with": _message}

    @property
    def results(self) -> list[dict[str, Any]]:
        """The passages as the API has them."""
        return [
            {
                "file_id": file_id_of(record),
                "filename": record.name,
                "score": passage.confidence,
                "attributes": attributes_of(record),
                "text": passage.text,
            }
            for passage, record in zip(self.passages, self.records, strict=True)
        ]

    def annotations(self, text: str, recalled: Sequence[RetrievedPassage]) -> tuple[dict[str, Any], ...]:
        """The citations of files in a reply, in the order of the text.

        Args:
            recalled: the passages in its prompt, those of this search among them.
        """
        read = [passage for passage in recalled if passage in self.passages]
        if self.view is None or not read:
            return ()
        marks = citations(text, _numbers(recalled))
        cited = [(mark.end, recalled[position]) for mark in marks for position in mark.passages]
        contexts = [with_context(passage) for passage in read]
        for start, end in sentence_spans(text):
            if any(start < mark.end <= end for mark in marks):
                continue
            shares = RareWords.of(self.view, text[start:end]).coverage(contexts)
            best = int(np.argmax(shares))
            if shares[best] >= LEAST_SHARED:
                cited.append((end, read[best]))
        return tuple(self._annotation(*each) for each in sorted(cited, key=lambda each: each[0]) if each[1] in read)

    def _annotation(self, index: int, passage: RetrievedPassage) -> dict[str, Any]:
        record = self.records[self.passages.index(passage)]
        return {"type": "file_citation", "file_id": file_id_of(record), "filename": record.name, "index": index}


def file_search_of(
    library: Library, owner: str, tools: Sequence[FileSearchTool] | None, choice: str | ToolChoice | None
) -> FileSearch | None:
    """The search that a request asks for by its tools; None for none.

    Raises ApiError 404 for a vector store that the owner does not have, 400 for several tools, or a choice of one without any.
    """
    is_required = isinstance(choice, ToolChoice) or choice == "required"
    if not tools:
        if is_required:
            raise ApiError(400, "tool_choice names a tool, but there are none in tools.", param="tool_choice")
        return None
    if len(tools) > 1:
        raise ApiError(400, "tools must have file_search once: it takes several vector stores.", param="tools")
    (tool,) = tools
    for store in tool.vector_store_ids:
        require_store(library, owner, store)
    if choice == "none":
        return None
    options = tool.ranking_options
    is_told = options is not None and "score_threshold" in options.model_fields_set
    return FileSearch(
        tuple(dict.fromkeys(tool.vector_store_ids)),
        tool.filters,
        10 if tool.max_num_results is None else tool.max_num_results,
        options.score_threshold if options is not None and is_told else None,
        is_required,
    )


def _message(text: str, passages: Sequence[Quotable]) -> str:
    """The user's message with the passages of the prompt; without any, it says that nothing was found."""
    return question_message(text, passages) if passages else f"{NOTHING_FOUND}\n\n{text}"


def _numbers(recalled: Sequence[RetrievedPassage]) -> list[int]:
    """The number that each passage has in the prompt: that of the text in which it is quoted."""
    texts = in_reading_order(recalled)
    return [
        next(
            (
                number
                for number, text in enumerate(texts, start=1)
                if text.source == passage.source and passage.text in text.text
            ),
            0,
        )
        for passage in recalled
    ]
