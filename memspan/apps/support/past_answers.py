"""Which past replies can be given again, and the templates of intents."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from memspan.apps.support.entities import KINDS, entities, masked, personal, unknown_placeholders
from memspan.apps.support.exchanges import Exchange
from memspan.data.rows import is_empty, read_rows
from memspan.errors import UsageError

MOST_OF_AN_INTENT = 20  # past exchanges that are kept of an intent: the commonest replies, each with a few messages
MOST_MESSAGES = 3  # of a reply
MOST_WITHOUT_INTENT = 500
DIALOGUES, PERSON = "dialogues", "person"  # where a past answer comes from


@dataclass(frozen=True)
class PastAnswer:
    """A message with its reply, entities as placeholders.

    Attributes:
        origin: `DIALOGUES` or `PERSON`.
        customer: who wrote the message; empty where it is not known.
        intent: empty where it is not known.
    """

    message: str
    reply: str
    intent: str = ""
    customer: str = ""
    origin: str = DIALOGUES


@dataclass(frozen=True)
class Template:
    """A reply to an intent, with placeholders such as `{number}`."""

    intent: str
    reply: str


def reusable(exchanges: Sequence[Exchange]) -> tuple[list[PastAnswer], list[Exchange]]:
    """The past answers that can be given to other customers, and the exchanges whose replies cannot.

    An entity that a customer wrote before the reply becomes a placeholder. A reply that tells a number, an e-mail address or a
    telephone number that its customer did not write, and that no reply to another customer tells, is given to nobody else.
    """
    customers: defaultdict[str, set[str]] = defaultdict(set)  # to whom replies tell a value
    for exchange in exchanges:
        for value in personal(exchange.reply):
            customers[value].add(_customer(exchange))
    kept, private, written = [], [], defaultdict[str, dict[str, str]](dict)
    for exchange in _in_time(exchanges):
        known = written[_customer(exchange)]
        known |= {entity.value: entity.kind for entity in entities(exchange.message)}
        if not exchange.reply:
            continue
        if any(value not in known and len(customers[value]) < 2 for value in personal(exchange.reply)):
            private.append(exchange)
            continue
        reply = masked(exchange.reply, known)
        kept.append(PastAnswer(masked(exchange.message), reply, exchange.intent, exchange.customer))
    return _commonest(kept), private


def as_past_answer(message: str, reply: str, intent: str, customer: str, known: Mapping[str, str]) -> PastAnswer | None:
    """The answer of a person to a customer who wrote the entities `known`, {value: kind}; None if nobody else may be told."""
    known = {**known, **{entity.value: entity.kind for entity in entities(message)}}
    if any(value not in known for value in personal(reply)):
        return None
    return PastAnswer(masked(message), masked(reply, known), intent, customer, PERSON)


def _customer(exchange: Exchange) -> str:
    return exchange.customer or f"row {exchange.row}"


def _in_time(exchanges: Iterable[Exchange]) -> list[Exchange]:
    """In the order of time; those without one stay where they are."""
    return sorted(exchanges, key=lambda exchange: exchange.time or 0.0)


def _commonest(answers: Sequence[PastAnswer]) -> list[PastAnswer]:
    """Of each intent the commonest replies, each with some of its messages; the latest of those without an intent."""
    counts = Counter((answer.intent, answer.reply) for answer in answers)
    messages: Counter[tuple[str, str]] = Counter()
    of_intent: Counter[str] = Counter()
    kept = []
    latest_first = list(dict.fromkeys(reversed(answers)))
    for answer in sorted(latest_first, key=lambda answer: -counts[answer.intent, answer.reply]):
        most = MOST_OF_AN_INTENT if answer.intent else MOST_WITHOUT_INTENT
        key = (answer.intent, answer.reply)
        if messages[key] < MOST_MESSAGES and of_intent[answer.intent] < most:
            messages[key] += 1
            of_intent[answer.intent] += 1
            kept.append(answer)
    return kept


def read_templates(path: Path) -> list[Template]:
    """The templates of a table with the columns intent and reply.

    Raises UsageError for a file that cannot be read, a row without one of both, and an unknown placeholder.
    """
    templates = []
    for row in read_rows(path):
        values = {name.casefold(): value for name, value in row.values.items()}
        if row.problem or is_empty(values.get("intent")) or is_empty(values.get("reply")):
            problem = row.problem or "must have an intent and a reply"
            raise UsageError(f"Row {row.number} of {path} {problem}.")
        template = Template(str(values["intent"]).strip(), str(values["reply"]).strip())
        unknown = unknown_placeholders(template.reply)
        if unknown:
            raise UsageError(
                f"Row {row.number} of {path} has the placeholder {{{unknown[0]}}}; known: "
                f"{', '.join('{' + kind + '}' for kind in KINDS)}."
            )
        templates.append(template)
    return templates
