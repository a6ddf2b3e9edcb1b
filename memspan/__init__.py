"""memspan gives a language model a long-range memory.

import memspan
lm = memspan.load_model("smollm2")
memory = lm.read(open("book.txt").read())
print(lm.ask(memory, "Where was the treasure buried?").text)
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memspan.assistant.answer import Answer
    from memspan.assistant.answer_stream import AnswerStream
    from memspan.assistant.answerers.base import Answerer
    from memspan.assistant.chat import Chat
    from memspan.assistant.guards import Guard
    from memspan.assistant.language_model import LanguageModel
    from memspan.assistant.loading import load_model
    from memspan.assistant.progress import ReadProgress
    from memspan.assistant.retrieved import RetrievedPassage
    from memspan.assistant.screen import Screen
    from memspan.data.redaction import Redaction
    from memspan.memory import Filter, Memory, View, load_memory
    from memspan.memory.index.rankers import Encoders, Ranker, ranker_classes
    from memspan.models.generate import Sampling
    from memspan.plugins import register
    from memspan.pretrained.attach import attached
    from memspan.serve.library import Library

__version__ = "0.1.0"
__all__ = [
    "Answer",
    "AnswerStream",
    "Answerer",
    "Chat",
    "Encoders",
    "Filter",
    "Guard",
    "LanguageModel",
    "Library",
    "Memory",
    "Ranker",
    "ReadProgress",
    "Redaction",
    "RetrievedPassage",
    "Sampling",
    "Screen",
    "View",
    "attached",
    "load_memory",
    "load_model",
    "ranker_classes",
    "register",
]

_HOMES = {
    "memspan.assistant.answer": ("Answer",),
    "memspan.assistant.answer_stream": ("AnswerStream",),
    "memspan.assistant.answerers.base": ("Answerer",),
    "memspan.assistant.chat": ("Chat",),
    "memspan.assistant.guards": ("Guard",),
    "memspan.assistant.language_model": ("LanguageModel",),
    "memspan.assistant.loading": ("load_model",),
    "memspan.assistant.progress": ("ReadProgress",),
    "memspan.assistant.retrieved": ("RetrievedPassage",),
    "memspan.assistant.screen": ("Screen",),
    "memspan.data.redaction": ("Redaction",),
    "memspan.models.generate": ("Sampling",),
    "memspan.memory": ("Filter", "Memory", "View", "load_memory"),
    "memspan.memory.index.rankers": ("Encoders", "Ranker", "ranker_classes"),
    "memspan.plugins": ("register",),
    "memspan.pretrained.attach": ("attached",),
    "memspan.serve.library": ("Library",),
}


def __getattr__(name: str) -> Any:
    """Imports torch and transformers only when something of theirs is used: `memspan --help` must be quick."""
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'memspan' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
