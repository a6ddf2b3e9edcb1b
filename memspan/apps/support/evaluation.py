"""What a support folder is worth on messages of which the right intent, reply or document is known."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np

from memspan.apps.support.entities import masked
from memspan.apps.support.exchanges import Exchange
from memspan.apps.support.intents import Guess
from memspan.apps.support.reply import HAND_OVER, KNOWLEDGE, Desk, Reply
from memspan.apps.support.store import Customer
from memspan.data.scripts import words

RIGHT_F1 = 0.5  # of the words of a reply and the right reply, from which it counts as right
FALSE_REFUSALS = 0.05  # at which out-of-scope recall is given

Intervals = tuple[float, float]


@dataclass(frozen=True)
class Share:
    """A share of some messages, with its 95 % interval (Wilson); None of no message."""

    count: int
    of: int

    @property
    def value(self) -> float | None:
        return self.count / self.of if self.of else None

    @property
    def interval(self) -> Intervals | None:
        from scipy.stats import binomtest

        if not self.of:
            return None
        low, high = binomtest(self.count, self.of).proportion_ci(method="wilson")
        return float(low), float(high)

    def to_dict(self) -> dict[str, object]:
        return {"value": self.value, "interval": self.interval, "n": self.of}


def evaluate(
    desk: Desk,
    exchanges: Sequence[Exchange],
    limit: int | None = None,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, Share]:
    """The shares by name. A message is out of scope where its intent is none that was learned; one without an intent is neither.

    Args:
        limit: messages that are replied to, drawn at random with seed 0; None for all. Intents are measured on all.
        report: called with the number of replies so far and of all.
    """
    chosen = Random(0).sample(exchanges, limit) if limit is not None and limit < len(exchanges) else list(exchanges)
    replies: list[tuple[Exchange, Reply]] = []
    for exchange in chosen:
        if report is not None:
            report(len(replies), len(chosen))
        replies.append((exchange, desk.chosen(exchange.message, Customer("evaluation"))))
    return {**intent_shares(desk, exchanges), **_reply_shares(replies)}


def intent_shares(desk: Desk, exchanges: Sequence[Exchange]) -> dict[str, Share]:
    """What the intents are worth; empty without intents."""
    if desk.folder.intents is None:
        return {}
    labelled = [exchange for exchange in exchanges if exchange.intent]
    guesses = desk.folder.intents.guesses([exchange.message for exchange in labelled])
    pairs = list(zip(labelled, guesses, strict=True))
    known = set(desk.folder.intents.labels)
    return shares(
        [(exchange.intent, guess) for exchange, guess in pairs if exchange.intent in known],
        [guess for exchange, guess in pairs if exchange.intent not in known],
    )


def shares(inside: Sequence[tuple[str, Guess]], outside: Sequence[Guess]) -> dict[str, Share]:
    """What guesses are worth: of messages with a right intent each, and of messages that are out of scope."""
    confidences = [guess.confidence for _, guess in inside]
    at = float(np.quantile(confidences, FALSE_REFUSALS)) if confidences else 0.0
    return {
        "intent accuracy": Share(sum(guess.intent == intent for intent, guess in inside), len(inside)),
        "intent accuracy, not refused": Share(
            sum(guess.intent == intent and guess.is_known for intent, guess in inside), len(inside)
        ),
        "false refusals": Share(sum(not guess.is_known for _, guess in inside), len(inside)),
        "out-of-scope recall": Share(sum(not guess.is_known for guess in outside), len(outside)),
        "out-of-scope recall at 5 % false refusals": Share(
            sum(guess.confidence < at for guess in outside), len(outside) if inside else 0
        ),
    }


def _reply_shares(replies: Sequence[tuple[Exchange, Reply]]) -> dict[str, Share]:
    answerable = [(exchange, reply) for exchange, reply in replies if exchange.reply or exchange.source]
    sourced = [(exchange, reply) for exchange, reply in replies if exchange.source and reply.kind == KNOWLEDGE]
    return {
        "answer recall": Share(sum(is_right(*pair) for pair in answerable), len(answerable)),
        "right document cited first": Share(
            sum(
                _is_of(str(reply.sources[0]["source"]), exchange.source) for exchange, reply in sourced if reply.sources
            ),
            len(sourced),
        ),
        "hand-over rate": Share(sum(reply.kind == HAND_OVER for _, reply in replies), len(replies)),
    }


def is_right(exchange: Exchange, reply: Reply) -> bool:
    """Whether a reply is the right one: it quotes the right document, or shares at least half of its words with the right reply."""
    if reply.kind == HAND_OVER:
        return False
    documents = [str(source.get("source", "")) for source in reply.sources]
    if exchange.source and any(_is_of(document, exchange.source) for document in documents):
        return True
    return bool(exchange.reply) and word_f1(masked(reply.text), masked(exchange.reply)) >= RIGHT_F1


def word_f1(text: str, other: str) -> float:
    """The harmonic mean of the shares of the words of each of two texts that the other holds."""
    first, second = Counter(words(text)), Counter(words(other))
    shared = sum((first & second).values())
    return 2 * shared / max(1, sum(first.values()) + sum(second.values()))


def _is_of(document: str, name: str) -> bool:
    """Whether a document has this name, or one that ends with it."""
    return document == name or document.endswith(f"/{name}")
