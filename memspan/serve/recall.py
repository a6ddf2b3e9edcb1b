"""Searching as other programs do it: a folder, a query, passages whose scores are from 0 to 1."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from memspan.memory import Contents, Filter, Memory, Passage, load_memory

if TYPE_CHECKING:
    from memspan.assistant.language_model import LanguageModel
    from memspan.assistant.retrieved import RetrievedPassage


def scored_passages(
    lm: "LanguageModel",
    memory: Contents,
    query: str,
    *,
    top: int = 8,
    filter: Filter | None = None,
    min_score: float = 0.0,
    among: Callable[[Passage], bool] | None = None,
) -> "list[RetrievedPassage]":
    """The passages of a search, best first, each with its `confidence`, which is at least `min_score`; none without any text.

    Raises UsageError, NoMatch and ForeignMemory as `LanguageModel.search` does.
    """
    from memspan.assistant.confidence import supported

    view = memory.view()
    if len(view) == 0:
        return []
    found = lm.search(view, query, top=top, among=among, filter=filter)
    return supported(view, query, found, lm.retriever, min_score)


def open_folder(folder: str | os.PathLike[str]) -> "tuple[LanguageModel, Memory]":
    """The memory in a folder, and the model that made it.

    Raises UsageError if there is no memory or its model cannot be loaded, DamagedMemory if a file is not what was written.
    """
    from memspan.assistant.loading import load_model

    made_with = load_memory(folder).fingerprint
    encoder = "none" if made_with.encoder is None else made_with.encoder.name
    lm = load_model(made_with.name, dtype=made_with.dtype, encoder=encoder)
    return lm, load_memory(folder, expect=lm.fingerprint)
