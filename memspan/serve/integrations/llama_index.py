"""LlamaIndex: a memory as a retriever, and as a block of an agent's memory. Extra: llama-index."""

import asyncio
import os
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from memspan.assistant.language_model import LanguageModel
from memspan.assistant.reader import source_name
from memspan.data.plain_text import plain_ids
from memspan.memory import Contents, Filter, Memory
from memspan.serve.recall import open_folder, scored_passages


class MemspanRetriever(BaseRetriever):  # type: ignore[misc]
    """The passages of a memory that bear most on a query, as nodes with scores from 0 to 1.

    A node has the characters of its source as `start_char_idx` and `end_char_idx`, the source as `ref_doc_id` and as
    `metadata["source"]`, and the marks of the passage, such as `page`, in its metadata.
    """

    def __init__(
        self,
        lm: LanguageModel,
        memory: Contents,
        *,
        top: int = 8,
        filter: Filter | None = None,
        min_score: float = 0.0,
    ) -> None:
        self.lm, self.memory, self.top, self.filter, self.min_score = lm, memory, top, filter, min_score
        super().__init__()

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **settings: Any) -> "MemspanRetriever":
        """A retriever of the memory in a folder, with the model that made it."""
        return cls(*open_folder(folder), **settings)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = query_bundle.query_str
        found = scored_passages(self.lm, self.memory, query, top=self.top, filter=self.filter, min_score=self.min_score)
        return [
            NodeWithScore(
                node=TextNode(
                    text=passage.text,
                    id_=f"{passage.source}:{passage.start}-{passage.end}",
                    start_char_idx=passage.start,
                    end_char_idx=passage.end,
                    metadata={**passage.marks, "source": passage.source},
                    relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=passage.source)},
                ),
                score=passage.confidence,
            )
            for passage in found
        ]


class MemspanMemoryBlock(BaseMemoryBlock[str]):  # type: ignore[misc]
    """What left the short-term memory of an agent is read into a memory; what bears on its last message comes back.

    Attributes:
        lm: the model that made the memory.
        memory: where messages are kept, each as a source.
        top: how many passages come back at most.
        min_score: passages that score less, from 0 to 1, do not.
    """

    name: str = "memspan"
    lm: Any
    memory: Any
    top: int = 4
    min_score: float = 0.0

    async def _aget(self, messages: list[ChatMessage] | None = None, **block_kwargs: Any) -> str:
        texts = [text for message in messages or () if (text := (message.content or "").strip())]
        if not texts:
            return ""
        return await asyncio.to_thread(self._recalled, texts[-1])

    async def _aput(self, messages: list[ChatMessage]) -> None:
        await asyncio.to_thread(self._keep, messages)

    async def atruncate(self, content: str, tokens_to_truncate: int) -> str | None:
        """The content without its last passages, which bear least on the message; None where none is left."""
        lm: LanguageModel = self.lm
        parts = content.split(_BETWEEN)
        while parts and tokens_to_truncate > 0:
            tokens_to_truncate -= len(plain_ids(lm.tokenizer, parts.pop()))
        return _BETWEEN.join(parts) or None

    def _recalled(self, query: str) -> str:
        found = scored_passages(self.lm, self.memory, query, top=self.top, min_score=self.min_score)
        return _BETWEEN.join(f"[{passage.source}] {passage.text.strip()}" for passage in found)

    def _keep(self, messages: list[ChatMessage]) -> None:
        lm: LanguageModel = self.lm
        memory: Memory = self.memory
        for message in messages:
            if text := (message.content or "").strip():
                lm.remember(memory, f"{message.role.value}: {text}", source=source_name(text, None, memory))


_BETWEEN = "\n\n"
