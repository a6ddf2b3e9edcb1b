"""A support folder: what is in it, and how it is built.

knowledge.mem/     the memory of the knowledge
answers.mem/       a memory of past answers, made from those in customers.sqlite
intents/           the intent classifier
customers.sqlite   customers, hand-overs, past answers, templates
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path
from typing import Any, Self

from memspan.apps.support.exchanges import Exchange
from memspan.apps.support.intents import REFUSED, Intents, Report
from memspan.apps.support.past_answers import PERSON, PastAnswer, Template, reusable
from memspan.apps.support.store import FILE, Store
from memspan.assistant.language_model import LanguageModel
from memspan.data.documents import Skipped, open_documents
from memspan.errors import MemspanError, UnreadableSource, UsageError
from memspan.memory import Filter, Memory, load_memory

KNOWLEDGE, ANSWERS, INTENTS = "knowledge.mem", "answers.mem", "intents"
INTENT = "intent"  # a tag of past answers
AGAIN = {
    "again": "yes"
}  # a tag of those that are found whatever intent a message has: of persons, and without an intent
_SOURCE = "answer-"  # before the number of a past answer: its source in the memory


@dataclass
class Folder:
    """An open support folder.

    Attributes:
        intents: the classifier; None where the dialogues name no intents.
        to_person: the intents whose messages a person answers.
    """

    path: Path
    store: Store
    intents: Intents | None
    templates: Sequence[Template] = ()
    to_person: Sequence[str] = ()
    _memories: dict[str, Memory] = field(default_factory=dict)
    _state: tuple[int, int] | None = None  # of the past answers in the store
    _answers: dict[int, PastAnswer] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Self:
        """The support folder. Raises UsageError for one that was not built to its end."""
        store = Store.open(path / FILE)
        settings = store.settings()
        if "templates" not in settings:
            raise UsageError(f"{path} was not built to its end: the same `memspan support build` goes on.")
        intents = Intents.load(path / INTENTS, settings["languages"]) if settings["languages"] else None
        templates = [Template(**template) for template in settings["templates"]]
        return cls(path, store, intents, templates, settings["to_person"])

    @property
    def past_answers(self) -> dict[int, PastAnswer]:
        """By their numbers; those that other processes have added or forgotten meanwhile are noticed."""
        state = self.store.newest_answer()
        if state != self._state:
            self._state, self._answers = state, self.store.past_answers()
            self._memories.pop(ANSWERS, None)
        return self._answers

    def knowledge(self, lm: LanguageModel) -> Memory:
        """The memory of the knowledge."""
        if KNOWLEDGE not in self._memories:
            self._memories[KNOWLEDGE] = lm.new_memory(self.path / KNOWLEDGE)
        return self._memories[KNOWLEDGE]

    def answers(self, lm: LanguageModel, report: Report | None = None) -> Memory:
        """The memory of past answers, after it was brought up to those in the store."""
        answers = self.past_answers
        if ANSWERS not in self._memories:
            memory = lm.new_memory(self.path / ANSWERS)
            known = {self.number_of(name): name for name in memory.sources}
            gone = [name for number, name in known.items() if number not in answers]
            if gone:
                memory.forget(filter=Filter(sources=gone))
            new = [number for number in answers if number not in known]
            for done, number in enumerate(new):
                if report is not None and done % 100 == 0:
                    report(f"reading past answers: {done:,} of {len(new):,}")
                remember(lm, memory, number, answers[number])
            self._memories[ANSWERS] = memory
        return self._memories[ANSWERS]

    def forget(self, customer: str) -> dict[str, int]:
        """Delete everything that is kept of a customer, see `Store.forget`."""
        counts = self.store.forget(customer)
        answers = self.past_answers
        if (self.path / ANSWERS).is_dir():
            memory = load_memory(self.path / ANSWERS)
            gone = [name for name in memory.sources if self.number_of(name) not in answers]
            if gone:
                memory.forget(filter=Filter(sources=gone))
        return counts

    @staticmethod
    def number_of(source: str) -> int:
        """The number of the past answer that is a source of the memory."""
        return int(source.removeprefix(_SOURCE))


def remember(lm: LanguageModel, memory: Memory, number: int, answer: PastAnswer) -> None:
    """Read a past answer into the memory, under its number; it is found by its message and its reply."""
    is_found_again = answer.origin == PERSON or not answer.intent
    tags = {INTENT: answer.intent or "-", **(AGAIN if is_found_again else {})}
    lm.remember(memory, f"{answer.message}\n{answer.reply}", source=f"{_SOURCE}{number}", tags=tags)


@dataclass(frozen=True)
class Read:
    """What was read of a folder of knowledge.

    Attributes:
        documents: in the memory now.
        skipped, failed: sentences about files that are no documents, and that could not be read.
        forgotten: names of documents that are gone.
    """

    documents: int
    skipped: list[str]
    failed: list[str]
    forgotten: list[str]


def read_knowledge(path: Path, lm: LanguageModel, knowledge: Path, report: Report | None = None) -> Read:
    """Read a folder of documents, or a document, into the memory of a support folder, which then holds them alone.

    Documents that it holds already are not read again; one whose text has changed is put into the position of the earlier one.

    Raises UsageError where there is no readable document.
    """
    passed: list[Skipped] = []
    failed, names = [], []
    documents = list(open_documents([knowledge], on_skip=passed.append))
    if not documents:
        raise UsageError(f"There is no readable document in {knowledge}.")
    path.mkdir(parents=True, exist_ok=True)
    memory = lm.new_memory(path / KNOWLEDGE)
    for done, document in enumerate(documents):
        if report is not None:
            report(f"reading {document.source}, {done + 1:,} of {len(documents):,}")
        names.append(document.source)
        try:
            lm.read(document, memory, update=True)
        except UnreadableSource as error:
            failed.append(str(error))
    gone = [name for name in memory.sources if name not in names]
    if gone:
        memory.forget(filter=Filter(sources=[escape(name) for name in gone]))
    return Read(len(memory.sources), [f"{member.source} {member.reason}" for member in passed], failed, gone)


@dataclass(frozen=True)
class Built:
    """What a build made of exchanges.

    Attributes:
        private: exchanges whose replies are given to nobody else, because they tell what belongs to their customer.
        unanswered: intents with neither a template nor a past answer.
    """

    intents: Intents | None
    past_answers: int
    private: list[Exchange]
    unanswered: list[str]


# The parameters are what a folder is built from.
def build(
    path: Path,
    lm: LanguageModel,
    exchanges: Sequence[Exchange],
    templates: Sequence[Template] = (),
    to_person: Sequence[str] = (),
    features: Sequence[str] | None = None,
    refused: float = REFUSED,
    report: Callable[[str], None] | None = None,
) -> Built:
    """Learn intents and past answers of exchanges into a support folder; its knowledge is read beside this.

    In a folder that was built before, customers, their questions and what persons answered stay; the rest is replaced.

    Raises UsageError for templates or hand-overs of intents that no exchange has.
    """
    labelled = [exchange for exchange in exchanges if exchange.intent]
    known = {exchange.intent for exchange in labelled}
    for intent in (*to_person, *(template.intent for template in templates)):
        if intent not in known:
            raise UsageError(f"No message has the intent '{intent}', only {', '.join(sorted(known)) or 'none'}.")
    path.mkdir(parents=True, exist_ok=True)
    store = Store.open(path / FILE, create=True)
    intents = None
    if labelled:
        messages, labels = [exchange.message for exchange in labelled], [exchange.intent for exchange in labelled]
        intents = Intents.fit(messages, labels, features, refused, report)
        intents.save(path / INTENTS)
    answers, private = reusable(exchanges)
    settings: Mapping[str, Any] = {
        "templates": [vars(template) for template in templates],
        "to_person": list(to_person),
        "languages": [] if intents is None else list(intents.classifiers),
    }
    store.built(settings, answers)
    store.close()
    Folder.open(path).answers(lm, report)
    answered = {answer.intent for answer in answers} | {template.intent for template in templates} | set(to_person)
    return Built(intents, len(answers), private, sorted(known - answered))


def check_path(path: Path) -> None:
    """Raises UsageError for a folder that holds something else, MemspanError for one that cannot be made."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"{path} is a file: name a folder.")
    try:
        strange = path.is_dir() and any(path.iterdir()) and not (path / KNOWLEDGE).exists()
    except OSError as error:
        raise MemspanError(f"{path} cannot be read: {error.strerror}.") from error
    if strange:
        raise UsageError(f"{path} holds something else than a support folder: name a new folder.")
