"""LangChain's own suite for retrievers, and the history of a chat."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("langchain_core", reason="needs the extra langchain")

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda

from memspan import Filter, LanguageModel, Memory, load_memory
from memspan.errors import NoMatch
from memspan.serve.integrations.langchain import MemspanChatMessageHistory, MemspanRetriever
from memspan.serve.recall import scored_passages

QUERY = "Where does the zinc trunk stand?"

try:
    from langchain_tests.integration_tests import RetrieversIntegrationTests as Suite
except ImportError:  # its pytest plugins are not in the environment of `make`

    class Suite:  # type: ignore[no-redef]
        @pytest.mark.skip(reason="needs langchain-tests")
        def test_suite(self) -> None: ...


class TestSuite(Suite):
    """The standard tests that LangChain has for every retriever; they want `-o asyncio_mode=auto -W default`."""

    @pytest.fixture(autouse=True)
    def made(self, lm: LanguageModel, memory: Memory) -> Iterator[None]:
        type(self).parameters = {"lm": lm, "memory": memory}
        yield
        del type(self).parameters

    parameters: dict[str, Any]

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return MemspanRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return self.parameters

    @property
    def retriever_query_example(self) -> str:
        return QUERY

    @pytest.fixture
    def retriever(self, made: None) -> BaseRetriever:
        return MemspanRetriever(**self.parameters)


def test_documents_are_the_passages_of_a_search(lm: LanguageModel, memory: Memory) -> None:
    documents = MemspanRetriever(lm=lm, memory=memory, k=2).invoke(QUERY)
    found = scored_passages(lm, memory, QUERY, top=2)
    assert [document.page_content for document in documents] == [passage.text for passage in found]
    for document, passage in zip(documents, found, strict=True):
        assert document.metadata["source"] == passage.source
        assert document.metadata["score"] == passage.confidence
        assert memory.passages_of(passage.source)
        assert (document.metadata["start"], document.metadata["end"]) == (passage.start, passage.end)


def test_a_retriever_keeps_to_its_filter_and_its_score(lm: LanguageModel, memory: Memory) -> None:
    retriever = MemspanRetriever(lm=lm, memory=memory, filter=Filter(["soup.md"]))
    assert [document.metadata["source"] for document in retriever.invoke(QUERY)] == ["soup.md"]
    other = retriever.invoke(QUERY, filter=Filter(["rent.md"]))
    assert [document.metadata["source"] for document in other] == ["rent.md"]
    assert MemspanRetriever(lm=lm, memory=memory, min_score=1.0).invoke(QUERY) == []
    with pytest.raises(NoMatch):
        retriever.invoke(QUERY, filter=Filter(["nothing.md"]))


def test_a_retriever_is_part_of_a_chain(lm: LanguageModel, memory: Memory) -> None:
    chain = MemspanRetriever(lm=lm, memory=memory, k=1) | RunnableLambda(lambda documents: documents[0].page_content)
    assert chain.invoke(QUERY) == scored_passages(lm, memory, QUERY, top=1)[0].text


def test_a_folder_is_opened_with_the_model_that_made_it(tiny_model: Path, tmp_path: Path) -> None:
    import memspan

    lm = memspan.load_model(str(tiny_model))
    lm.read("The zinc trunk is blue.", lm.new_memory(tmp_path / "a.mem"), source="a")
    (document,) = MemspanRetriever.from_folder(tmp_path / "a.mem", k=1).invoke("zinc trunk")
    assert document.page_content == "The zinc trunk is blue."


MESSAGES: list[BaseMessage] = [
    HumanMessage("My sister Frieda lives in Bergen."),
    AIMessage("", tool_calls=[{"name": "note", "args": {"text": "Frieda"}, "id": "1"}]),
    ToolMessage("kept", tool_call_id="1"),
    AIMessage("I will remember that."),
]


def test_the_history_of_a_session_comes_back_from_disk_as_it_was(lm: LanguageModel, memory: Memory) -> None:
    history = MemspanChatMessageHistory(lm, memory, "ann")
    assert history.messages == []
    history.add_messages(MESSAGES[:2])
    history.add_messages(MESSAGES[2:])
    for number in range(8):
        history.add_user_message(f"Message {number}.")
    again = MemspanChatMessageHistory(lm, load_memory(memory.path), "ann").messages
    assert again[:4] == MESSAGES
    assert [message.text for message in again[4:]] == [f"Message {number}." for number in range(8)]


def test_sessions_are_apart_and_what_was_said_is_found(lm: LanguageModel, memory: Memory) -> None:
    ann, ann_b = (MemspanChatMessageHistory(lm, memory, name) for name in ("ann", "ann[b]*"))
    ann.add_messages(MESSAGES[:1])
    ann_b.add_messages(MESSAGES[3:])
    retriever = MemspanRetriever(lm=lm, memory=memory, k=1, filter=Filter(["ann/*"]))
    assert retriever.invoke("Where does Frieda live?")[0].page_content == "human: My sister Frieda lives in Bergen."
    ann_b.clear()
    ann_b.clear()
    assert ann_b.messages == []
    assert ann.messages == MESSAGES[:1]
    ann.clear()
    assert set(memory.sources) == {"boat.md", "soup.md", "rent.md", "storm.md"}
