"""LlamaIndex's own classes with a memory behind them."""

import asyncio

import pytest

pytest.importorskip("llama_index.core", reason="needs the extra llama-index")

from llama_index.core.llms import ChatMessage, MockLLM
from llama_index.core.memory import Memory as AgentMemory
from llama_index.core.query_engine import RetrieverQueryEngine

from memspan import Filter, LanguageModel, Memory
from memspan.serve.integrations.llama_index import MemspanMemoryBlock, MemspanRetriever
from memspan.serve.recall import scored_passages

QUERY = "Where does the zinc trunk stand?"


def test_nodes_are_the_passages_of_a_search(lm: LanguageModel, memory: Memory) -> None:
    nodes = MemspanRetriever(lm, memory, top=2).retrieve(QUERY)
    found = scored_passages(lm, memory, QUERY, top=2)
    assert [each.node.get_content() for each in nodes] == [passage.text for passage in found]
    for each, passage in zip(nodes, found, strict=True):
        assert each.score == passage.confidence
        assert each.node.ref_doc_id == passage.source
        assert (each.node.start_char_idx, each.node.end_char_idx) == (passage.start, passage.end)
    (soup,) = MemspanRetriever(lm, memory, filter=Filter(["soup.md"])).retrieve(QUERY)
    assert soup.node.metadata["source"] == "soup.md"


def test_a_query_engine_answers_from_the_memory(lm: LanguageModel, memory: Memory) -> None:
    engine = RetrieverQueryEngine.from_args(MemspanRetriever(lm, memory, top=1), llm=MockLLM())
    response = engine.query(QUERY)
    assert scored_passages(lm, memory, QUERY, top=1)[0].text in str(response)
    assert response.source_nodes[0].node.ref_doc_id in memory.sources


def test_what_leaves_the_short_term_memory_is_recalled(lm: LanguageModel, memory: Memory) -> None:
    block = MemspanMemoryBlock(lm=lm, memory=memory, top=1)
    agent = AgentMemory.from_defaults(
        session_id="ann", token_limit=60, chat_history_token_ratio=0.5, token_flush_size=20, memory_blocks=[block]
    )

    async def main() -> list[ChatMessage]:
        await agent.aput(ChatMessage(role="user", content="My sister Frieda lives in Bergen by the harbour."))
        for number in range(12):
            await agent.aput(ChatMessage(role="assistant", content=f"This is answer number {number} of many."))
        await agent.aput(ChatMessage(role="user", content="Where does Frieda live?"))
        return await agent.aget()

    messages = asyncio.run(main())
    assert any("Frieda lives in Bergen" in (record or "") for record in texts(memory))
    assert any("Frieda lives in Bergen" in (message.content or "") for message in messages)


def texts(memory: Memory) -> list[str]:
    return [memory.passage(number).text for number in range(len(memory))]


def test_a_block_without_messages_is_empty_and_is_cut_from_its_end(lm: LanguageModel, memory: Memory) -> None:
    block = MemspanMemoryBlock(lm=lm, memory=memory, top=3)
    assert asyncio.run(block.aget([])) == ""
    content = asyncio.run(block.aget([ChatMessage(role="user", content=QUERY)]))
    shorter = asyncio.run(block.atruncate(content, 5))
    assert shorter is not None
    assert content.startswith(shorter)
    assert shorter.count("[") == 2
    assert asyncio.run(block.atruncate(content, 10_000)) is None
