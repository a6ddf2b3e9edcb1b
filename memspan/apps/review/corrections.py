"""Approved and edited answers as sources of a memory, so that later answers find them."""

from dataclasses import dataclass, field
from hashlib import sha256

from memspan.apps.review.queue import Queue
from memspan.assistant.language_model import LanguageModel
from memspan.memory import Memory
from memspan.memory.filter import TAGS

ORIGIN = {"origin": "review"}  # the tag of the sources


@dataclass(frozen=True)
class Changes:
    """What was done to a memory: the names of its sources."""

    read: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)


def read_corrections(queue: Queue, lm: LanguageModel, memory: Memory) -> Changes:
    """Make the corrections of a queue in a memory those that its decisions say now.

    Each answer that a person has approved or edited becomes a source "review:QUEUE:NUMBER" with the question and the right
    answer. Doing so again adds nothing; a decision that was changed replaces its source, and the sources of answers that were
    rejected since, or are no longer in the queue, are forgotten for good.
    """
    prefix = f"review:{queue.name}:"  # no path, which `memspan read --prune` could take for that of a file that is gone
    wanted = {
        f"{prefix}{item.id}": _text(item.question, item.right_answer)
        for item in queue.items(decided=True)
        if item.right_answer
    }
    present = [name for name in memory.sources if name.startswith(prefix)]
    changes = Changes()
    for name in present:
        if name not in wanted:
            memory.replace([name], [])
            changes.forgotten.append(name)
    for name, text in wanted.items():
        if name in present:
            if memory.sources[name].sha256 == sha256(text.encode()).hexdigest():
                continue
            memory.replace([name], [])
            changes.replaced.append(name)
        else:
            changes.read.append(name)
        lm.remember(memory, text, source=name, kind="document", **{TAGS: ORIGIN})
    return changes


def _text(question: str, answer: str | None) -> str:
    return f"Question: {question.strip()}\n\nAnswer: {answer}"
