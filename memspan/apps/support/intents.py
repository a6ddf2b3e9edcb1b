"""What a customer wants: the product's classifier over features, and a threshold on its calibrated confidence below which a
message fits no intent. Each language has a classifier of its own, because other features suit it.

Which features are used is chosen on the past messages alone. Half of the intents are learned and the other half left out, then
the other way round: the features with which most known messages keep their right intent, and most of those that were left out
fit none, are taken; so is whether unfamiliar words count. No message is ever labelled as out of scope.

The confidence is the calibrated probability of the likeliest intent, which says little of a message that is like none of the past
ones. Where unfamiliar words count, it is multiplied by the share of the words and pairs of words of the message that past messages
hold; for the threshold each past message is compared with the others.

Letters: N messages, C intents.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from memspan.apps.support.entities import masked
from memspan.apps.support.phrases import language
from memspan.data.scripts import words
from memspan.errors import DamagedFolder, UsageError
from memspan.models.folders import read_json, replaced
from memspan.models.saved import open_model
from memspan.pretrained import encoders
from memspan.pretrained.feature_classifier import FeatureClassifier, FeatureClassifierConfig, Fitted
from memspan.pretrained.features import Sources, choose
from memspan.pretrained.hub import DEFAULT as BASE

KINDS = ("words", "characters", "sentences")  # of features: those that take no language model
REFUSED = 0.05  # share of the past messages that may fit no intent
LEAST_INTENTS = 4  # so that some can be left out
TRIED = 2000  # messages that features are chosen on, of each half of the intents
LEAST_MESSAGES = 20  # of a language, for a classifier of its own
LEFT_OUT = 400  # messages of the other half
SETTINGS = "intents.json"

Report = Callable[[str], None]


@dataclass(frozen=True)
class Guess:
    """What a message is taken for.

    Attributes:
        intent: the likeliest.
        confidence: 0 to 1, see the module.
        threshold: that the confidence must reach; otherwise the message fits no intent.
    """

    intent: str
    confidence: float
    threshold: float

    @property
    def is_known(self) -> bool:
        """Whether the message fits the intent."""
        return self.confidence >= self.threshold


@dataclass(frozen=True)
class Choice:
    """What some features were worth.

    Attributes:
        known: share of the messages of learned intents that keep their right intent.
        refused: share of the messages of intents that were left out which fit none; None where too few could be left out.
        by_words: whether unfamiliar words counted.
    """

    features: tuple[str, ...]
    by_words: bool
    known: float
    refused: float | None

    @property
    def score(self) -> float:
        return self.known if self.refused is None else (self.known + self.refused) / 2


class IntentClassifier:
    """The intents of messages in one language, as learned from past ones; entities count as their kind.

    Attributes:
        labels: the names of the intents.
        threshold: the confidence below which a message fits none.
        choices: what the features that were tried were worth, the best first.
        familiar: the words and pairs of words of past messages; None where unfamiliar ones do not count.
    """

    def __init__(
        self,
        model: FeatureClassifier,
        labels: Sequence[str],
        threshold: float,
        choices: Sequence[Choice],
        familiar: Collection[str] | None,
    ) -> None:
        self.model, self.labels, self.threshold, self.choices = model, list(labels), threshold, list(choices)
        self.familiar = None if familiar is None else frozenset(familiar)

    @classmethod
    def fit(
        cls,
        messages: Sequence[str],
        intents: Sequence[str],
        features: Sequence[str] | None = None,
        refused: float = REFUSED,
        report: Report | None = None,
    ) -> Self:
        """Learn the intents of messages.

        Args:
            features: kinds of them; None chooses them, see the module.
            refused: share of such messages that may be refused, 0 to 1: it sets the threshold.
            report: called with what is being computed.

        Raises UsageError for fewer than two intents, and for a share outside of 0 to 1.
        """
        if not 0 < refused < 1:
            raise UsageError(f"The share of refused messages must be above 0 and below 1, got {refused}.")
        labels = sorted(set(intents))
        if len(labels) < 2:
            raise UsageError(f"There must be at least two intents to tell apart, got {', '.join(labels) or 'none'}.")
        pairs = dict.fromkeys(zip(map(masked, messages), intents, strict=True))  # a message counts once
        messages, numbers = [text for text, _ in pairs], [labels.index(intent) for _, intent in pairs]
        choices = _choices(messages, numbers, features, refused, report or (lambda stage: None))
        best = choices[0]
        if report is not None:
            names = ", ".join(best.features)
            report(f"fitting {len(labels)} intents on {len(messages):,} messages, features: {names}")
        learned = _Learned.fit(best.features, messages, numbers)
        threshold = float(np.quantile(learned.confidences(best.by_words), refused))
        return cls(learned.model.eval(), labels, threshold, choices, learned.counts if best.by_words else None)

    @property
    def features(self) -> list[str]:
        """The kinds of features."""
        return list(self.model.config.features)

    def guesses(self, messages: Sequence[str]) -> list[Guess]:
        """What each message is taken for."""
        if not messages:
            return []
        texts = [masked(message) for message in messages]
        logs = self.model.log_probabilities(texts)
        shares = [1.0] * len(texts) if self.familiar is None else [_share(text, self.familiar) for text in texts]
        confidences = (np.exp(logs.max(1)) * shares).tolist()
        return [
            Guess(self.labels[number], confidence, self.threshold)
            for number, confidence in zip(logs.argmax(1).tolist(), confidences, strict=True)
        ]

    # ---- on disk

    def save(self, folder: Path) -> None:
        """Write the classifier into `folder`, in the place of an earlier one, in one step."""
        choices = [asdict(choice) for choice in self.choices]
        familiar = None if self.familiar is None else sorted(self.familiar)
        settings = {"labels": self.labels, "threshold": self.threshold, "choices": choices, "familiar": familiar}
        with replaced(folder) as new:
            self.model.save_pretrained(new)
            (new / SETTINGS).write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The classifier that `save` wrote. Raises UsageError or DamagedFolder if there is none, or another."""
        model = open_model(folder)
        if not isinstance(model, FeatureClassifier):
            raise UsageError(f"{folder} must hold a classifier over features, got a {type(model).__name__}.")
        settings: Any = read_json(folder / SETTINGS)
        try:
            labels, threshold = [str(label) for label in settings["labels"]], float(settings["threshold"])
            choices = [Choice(**{**choice, "features": tuple(choice["features"])}) for choice in settings["choices"]]
            familiar = settings["familiar"]
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedFolder(f"{folder / SETTINGS} does not describe intents: build the folder again.") from error
        if len(labels) != model.config.classes:
            raise DamagedFolder(f"{folder} holds {model.config.classes} classes and {len(labels)} names of them.")
        return cls(model.eval(), labels, threshold, choices, familiar)


class Intents:
    """The intents of messages, whatever their language.

    Attributes:
        classifiers: by language, that of most messages first; it takes messages in languages without one.
    """

    def __init__(self, classifiers: Mapping[str, IntentClassifier]) -> None:
        self.classifiers = dict(classifiers)

    @classmethod
    def fit(
        cls,
        messages: Sequence[str],
        intents: Sequence[str],
        features: Sequence[str] | None = None,
        refused: float = REFUSED,
        report: Report | None = None,
    ) -> Self:
        """A classifier for each language with enough messages, see `IntentClassifier.fit`; the rest count with the largest."""
        by_language: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for message, intent in zip(messages, intents, strict=True):
            by_language[language(message)].append((message, intent))
        largest, *others = sorted(by_language, key=lambda name: -len(by_language[name]))
        for name in others:
            if len(by_language[name]) < LEAST_MESSAGES or len({intent for _, intent in by_language[name]}) < 2:
                by_language[largest] += by_language.pop(name)
        classifiers = {}
        for name in (largest, *(name for name in others if name in by_language)):
            texts, labels = zip(*by_language[name], strict=True)
            if report is not None and len(by_language) > 1:
                report(f"messages in the language '{name}':")
            classifiers[name] = IntentClassifier.fit(texts, labels, features, refused, report)
        return cls(classifiers)

    @property
    def labels(self) -> list[str]:
        """The names of the intents."""
        return sorted({label for classifier in self.classifiers.values() for label in classifier.labels})

    def of(self, message: str) -> IntentClassifier:
        """The classifier of messages in this language."""
        return self.classifiers.get(language(message)) or next(iter(self.classifiers.values()))

    def guesses(self, messages: Sequence[str]) -> list[Guess]:
        """What each message is taken for."""
        found: dict[int, Guess] = {}
        for classifier in self.classifiers.values():
            rows = [row for row, message in enumerate(messages) if self.of(message) is classifier]
            found |= zip(rows, classifier.guesses([messages[row] for row in rows]), strict=True)
        return [found[row] for row in range(len(messages))]

    def guess(self, message: str) -> Guess:
        """What a message is taken for."""
        return self.of(message).guesses([message])[0]

    def save(self, folder: Path) -> None:
        """Write a folder for each language into `folder`."""
        for name, classifier in self.classifiers.items():
            classifier.save(folder / name)

    @classmethod
    def load(cls, folder: Path, languages: Sequence[str]) -> Self:
        """The classifiers that `save` wrote, of these languages."""
        return cls({name: IntentClassifier.load(folder / name) for name in languages})


def _classifier(features: Sequence[str], classes: int) -> FeatureClassifier:
    config = FeatureClassifierConfig(
        base=BASE, tokenizer_size=0, classes=classes, features=list(features), encoder=_encoder()
    )
    return FeatureClassifier(config)


def _encoder() -> str:
    name = encoders.chosen(encoders.AUTO)
    return encoders.DEFAULT if name == encoders.AUTO else name


@dataclass(frozen=True)
class _Learned:
    """A classifier of some messages, and what is known of them.

    Attributes:
        right: whether each of the messages was recognised by a classifier that had not seen it.
        counts: in how many messages each word and pair of words is.
    """

    model: FeatureClassifier
    texts: Sequence[str]
    fitted: Fitted
    right: NDArray[np.bool_]
    counts: Counter[str]

    @classmethod
    def fit(cls, features: Sequence[str], texts: Sequence[str], numbers: Sequence[int]) -> Self:
        model = _classifier(features, max(numbers) + 1)
        fitted = model.fit(texts, numbers)
        right = fitted.classes[fitted.log_probabilities.argmax(1)] == np.array(numbers)
        return cls(model, texts, fitted, right, Counter(term for text in texts for term in set(_terms(text))))

    def confidences(self, by_words: bool) -> NDArray[np.float64]:
        """Those of the messages, by classifiers that had not seen them, (N,)."""
        confidences: NDArray[np.float64] = np.exp(self.fitted.log_probabilities.max(1)).astype(np.float64)
        if by_words:
            shared = {term for term, count in self.counts.items() if count > 1}  # also in another message
            confidences *= [_share(text, shared) for text in self.texts]
        return confidences


def _terms(text: str) -> list[str]:
    """The words and pairs of words of a text."""
    found = words(text)
    return [*found, *(f"{first} {second}" for first, second in pairwise(found))]


def _share(text: str, familiar: Collection[str]) -> float:
    """The share of the words and pairs of words of a text that are familiar."""
    terms = _terms(text)
    return sum(term in familiar for term in terms) / max(1, len(terms))


def _choices(
    messages: Sequence[str], numbers: Sequence[int], features: Sequence[str] | None, refused: float, report: Report
) -> list[Choice]:
    """What the features, or the possible ones, are worth, the best first; of equals, the one with fewer kinds."""
    if features is None:
        suitable, left_out = choose(messages, Sources(BASE, encoder=_encoder()), KINDS)
        for name, reason in left_out.items():
            report(f"no {name}: {reason}")
        options = _options([kind for kind in KINDS if kind in suitable])
    else:
        options = [tuple(features)]
    choices = []
    for option in options:
        report(f"trying {' + '.join(option)}")
        choices += _worth(option, messages, numbers, refused)
    return sorted(choices, key=lambda choice: (-choice.score, len(choice.features), choice.by_words))


def _options(kinds: Sequence[str]) -> list[tuple[str, ...]]:
    """Each kind alone, words with each other kind, and all kinds."""
    pairs = [(kinds[0], other) for other in kinds[1:]]
    return [*((kind,) for kind in kinds), *pairs, *([tuple(kinds)] if len(kinds) > 2 else [])]


def _worth(features: tuple[str, ...], messages: Sequence[str], numbers: Sequence[int], refused: float) -> list[Choice]:
    """What features are worth, with unfamiliar words and without."""
    draw = Random(0)
    by_intent: dict[int, list[str]] = defaultdict(list)
    for row in draw.sample(range(len(messages)), len(messages)):
        by_intent[numbers[row]].append(messages[row])
    intents = draw.sample(sorted(by_intent), len(by_intent))
    if len(intents) < LEAST_INTENTS:
        learned, by_words = _fit(features, by_intent, intents), "sentences" not in features
        return [Choice(features, by_words, _kept(learned, by_words, refused)[0], None)]
    shares: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for first in (0, 1):
        learned = _fit(features, by_intent, intents[first::2])
        strangers = [text for _, text in _some(by_intent, intents[1 - first :: 2], LEFT_OUT)]
        likeliest = np.exp(learned.model.log_probabilities(strangers).max(1))
        for by_words, measured in shares.items():
            known, threshold = _kept(learned, by_words, refused)
            familiar = [_share(text, learned.counts) for text in strangers] if by_words else 1.0
            measured.append((known, float((likeliest * familiar < threshold).mean())))
    means = {by_words: np.mean(measured, 0).tolist() for by_words, measured in shares.items()}
    return [Choice(features, by_words, known, left_out) for by_words, (known, left_out) in means.items()]


def _fit(features: Sequence[str], by_intent: Mapping[int, Sequence[str]], intents: Sequence[int]) -> _Learned:
    chosen = _some(by_intent, intents, TRIED)
    return _Learned.fit(features, [text for _, text in chosen], [intents.index(number) for number, _ in chosen])


def _kept(learned: _Learned, by_words: bool, refused: float) -> tuple[float, float]:
    """The share of the messages that keep their right intent, and the threshold that refuses the share `refused` of them."""
    confidences = learned.confidences(by_words)
    threshold = float(np.quantile(confidences, refused))
    return float((learned.right & (confidences >= threshold)).mean()), threshold


def _some(by_intent: Mapping[int, Sequence[str]], intents: Sequence[int], most: int) -> list[tuple[int, str]]:
    """At most so many messages with their intents, about as many of each."""
    each = max(2, most // len(intents))
    return [(number, text) for number in intents for text in by_intent[number][:each]]
