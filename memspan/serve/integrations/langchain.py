"""LangChain: a memory as a retriever, and as the history of a chat. Extra: langchain."""

import glob
import os
from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.chat_history import BaseChatMessageHistory
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage, message_to_dict, messages_from_dict
from langchain_core.retrievers import BaseRetriever

from memspan.assistant.language_model import LanguageModel
from memspan.memory import Contents, Filter, Memory
from memspan.memory.store.shard import SourceRecord
from memspan.serve.recall import open_folder, scored_passages

_MESSAGE, _NUMBER = "langchain_message", "langchain_number"  # in the meta of the source that a message is


class MemspanRetriever(BaseRetriever):  # type: ignore[misc]
    """The passages of a memory that bear most on a query, as documents.

    Their metadata are `source`, `start` and `end` (characters of the source), `score` (how far the passage supports an
    answer, from 0 to 1), `happened` (unix seconds, if known), and the marks of the passage, such as `page`.

    Attributes:
        lm: the model that made the memory.
        memory: a memory, or a view of one.
        k: how many documents at most; also an argument of `invoke`.
        filter: which passages to search; also an argument of `invoke`.
        min_score: documents that score less are left out.
    """

    lm: Any
    memory: Any
    k: int = 8
    filter: Any = None
    min_score: float = 0.0

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str], **settings: Any) -> "MemspanRetriever":
        """A retriever of the memory in a folder, with the model that made it."""
        lm, memory = open_folder(folder)
        return cls(lm=lm, memory=memory, **settings)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        k: int | None = None,
        filter: Filter | None = None,
    ) -> list[Document]:
        lm: LanguageModel = self.lm
        contents: Contents = self.memory
        found = scored_passages(
            lm,
            contents,
            query,
            top=self.k if k is None else k,
            filter=self.filter if filter is None else filter,
            min_score=self.min_score,
        )
        return [
            Document(
                page_content=passage.text,
                metadata={
                    **passage.marks,
                    "source": passage.source,
                    "start": passage.start,
                    "end": passage.end,
                    "score": passage.confidence,
                    "happened": passage.happened,
                },
            )
            for passage in found
        ]


class MemspanChatMessageHistory(BaseChatMessageHistory):  # type: ignore[misc]
    """The messages of one session, each a source of a memory: a retriever on the same memory finds what was said long ago.

    LangChain 1 has deprecated the base class, and keeps it until its version 2.

    Attributes:
        lm: the model that made the memory.
        memory: where the messages are kept.
        session_id: of the session, which has the sources "SESSION_ID/1", "SESSION_ID/2" and so on.
    """

    def __init__(self, lm: LanguageModel, memory: Memory, session_id: str) -> None:
        self.lm, self.memory, self.session_id = lm, memory, session_id

    @property
    def messages(self) -> list[BaseMessage]:
        """The messages of the session, the oldest first."""
        return list(messages_from_dict([record.meta[_MESSAGE] for record in self._records()]))

    def add_messages(self, messages: Sequence[BaseMessage]) -> None:
        """Add messages to the memory, each in one commit."""
        records = self._records()
        first = 1 + (records[-1].meta[_NUMBER] if records else 0)
        for number, message in enumerate(messages, first):
            text = f"{message.type}: {message.text}".strip()
            meta: dict[str, Any] = {_MESSAGE: message_to_dict(message), _NUMBER: number}
            self.lm.remember(self.memory, text, source=f"{self.session_id}/{number}", **meta)

    def clear(self) -> None:
        """Forget the messages of the session for good."""
        if self._records():
            self.memory.forget(f"{glob.escape(self.session_id)}/*")

    def _records(self) -> list[SourceRecord]:
        prefix = f"{self.session_id}/"
        records = [
            record
            for record in self.memory.sources.values()
            if record.name.startswith(prefix) and record.meta.get(_MESSAGE) is not None
        ]
        return sorted(records, key=lambda record: int(record.meta[_NUMBER]))
