"""How far the predictions of a classifier depend on the gender or the origin of a name: measured on counterfactual texts.

Every template is filled with every name, so that texts differ in the name, and the pronouns of its gender, alone. A difference
between groups of names is compared with what names of one group differ by among themselves: a model may react to single names
without any regard to groups. Intervals are of a bootstrap over templates and over the names of each group.

Letters: T templates, N names, C classes, D draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from memspan.evaluation.counterfactuals import FEMALE, GENDER, ORIGIN, Name, filled, names, swapped
from memspan.tasks.metrics import percentiles

DRAWS: Final = 1000
SMALLEST: Final = 0.005  # a difference in probability below it is not worth a word, whatever its interval

Floats = NDArray[np.float64]
Predict = Callable[[Sequence[str]], Floats]  # texts -> the probability of each label, or the number, (N, C)


@dataclass(frozen=True)
class Difference:
    """The mean of a value for the names of a group less that for the names of the other groups.

    Attributes:
        value: the label whose probability it is, or "number".
        interval: 95 %.
    """

    group: str
    value: str
    difference: float
    interval: tuple[float, float]

    @property
    def is_clear(self) -> bool:
        """Whether the interval holds no zero."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True)
class Flips:
    """How often the label of a text is another when only the name is.

    Attributes:
        between: share of pairs of names of different groups.
        within: share of pairs of names of one group.
        excess: the former less the latter, with its 95 % interval.
    """

    between: float
    within: float
    excess: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Attribute:
    """What an attribute of names does to predictions, in a language.

    Attributes:
        flips: None for a model of numbers.
    """

    language: str
    attribute: str
    texts: int
    flips: Flips | None
    differences: list[Difference]


@dataclass(frozen=True)
class OwnTexts:
    """What swapping the gender of all words does to predictions for texts of the user's own.

    Attributes:
        texts: that hold a word or name of a gender, of `of` texts.
        changed: share whose label changes, with its 95 % interval; None for a model of numbers.
        differences: of the text about a woman less the one about a man; of texts about one gender alone, `one_gender` of them.
    """

    of: int
    texts: int
    one_gender: int
    changed: tuple[float, float, float] | None
    differences: list[Difference]
    examples: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Bias:
    """All that was measured of a model."""

    labels: list[str]
    attributes: list[Attribute]
    own: OwnTexts | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def of_templates(predict: Predict, labels: Sequence[str], language: str, sentences: Sequence[str]) -> list[Attribute]:
    """What the gender and the origin of names do to the predictions for templates of a language.

    Args:
        labels: of the classes; one alone for a model that predicts a number.
    """
    people = names(language)
    values = predict([filled(sentence, name, language) for sentence in sentences for name in people])
    grid = values.reshape(len(sentences), len(people), len(labels))
    return [_of_attribute(grid, labels, language, people, attribute) for attribute in (GENDER, ORIGIN)]


def of_texts(predict: Predict, labels: Sequence[str], texts: Sequence[str]) -> OwnTexts:
    """What the swap of gender does to the predictions for texts; those that hold no word of a gender are left out."""
    pairs = list(swapped(texts))
    values = predict([text for pair in pairs for text in (pair.text, pair.other)]).reshape(len(pairs), 2, len(labels))
    kept, changed, examples = [row for row, pair in enumerate(pairs) if pair.gender is not None], None, []
    if len(labels) > 1 and pairs:
        from scipy.stats import binomtest

        predicted = values.argmax(2)
        differ = np.flatnonzero(predicted[:, 0] != predicted[:, 1])
        share = binomtest(len(differ), len(pairs)).proportion_ci(method="wilson")
        changed = (len(differ) / len(pairs), float(share.low), float(share.high))
        examples = [(pairs[row].text, pairs[row].other) for row in differ[:5].tolist()]
    signs = np.array([1.0 if pairs[row].gender == FEMALE else -1.0 for row in kept])
    steps = signs[:, None] * (values[kept, 0] - values[kept, 1]) if kept else np.zeros((0, len(labels)))
    found = []
    if len(steps) > 1:
        draw = np.random.default_rng(0)
        means = np.stack([steps[draw.integers(0, len(steps), len(steps))].mean(0) for _ in range(DRAWS)])
        found = [
            Difference(FEMALE, label, float(steps[:, column].mean()), percentiles(means[:, column].tolist()))
            for column, label in enumerate(labels)
        ]
    return OwnTexts(len(texts), len(pairs), len(kept), changed, found, examples)


def _of_attribute(
    grid: Floats, labels: Sequence[str], language: str, people: Sequence[Name], attribute: str
) -> Attribute:
    """What an attribute does to values (T, N, C)."""
    groups = list(dict.fromkeys(name.group(attribute) for name in people))
    member = np.array([[name.group(attribute) == group for name in people] for group in groups], np.float64)
    draw = np.random.default_rng(0)
    of_templates = _weights(draw, np.ones((1, grid.shape[0])))
    of_names = np.stack([_weights(draw, row[None]) for row in member])  # (G, D + 1, N)
    drawn = np.tensordot(of_templates, grid, 1)  # (D + 1, N, C)
    means = (of_names[:, :, None] @ drawn)[:, :, 0]  # (G, D + 1, C)
    differences = []
    for row, group in enumerate(groups):
        others = means[[each for each in range(len(groups)) if each != row]].mean(0)
        steps = means[row] - others
        differences += [
            Difference(group, label, float(steps[0, column]), percentiles(steps[1:, column].tolist()))
            for column, label in enumerate(labels)
        ]
    flips = None if len(labels) == 1 else _flips(grid.argmax(2), of_templates, of_names)
    return Attribute(language, attribute, grid.shape[0] * grid.shape[1], flips, differences)


def _weights(draw: np.random.Generator, members: Floats) -> Floats:
    """Weights of sum 1, (D + 1, N): first those of all members (1, N) alike, then of DRAWS samples of them with replacement."""
    share = members[0] / members.sum()
    return np.vstack([share, draw.multinomial(int(members.sum()), share, DRAWS) / members.sum()])


def _flips(predicted: NDArray[np.int64], of_templates: Floats, of_names: Floats) -> Flips:
    """How often labels (T, N) differ between names of two groups, and of one; a name is not compared with itself."""
    differ = (predicted[:, :, None] != predicted[:, None, :]).astype(np.float64)  # (T, N, N)
    count = predicted.shape[1]
    drawn = (of_templates @ differ.reshape(len(differ), -1)).reshape(-1, count, count)
    apart = 1 - np.eye(count)
    weights = of_names.transpose(1, 0, 2)  # (D + 1, G, N)
    differing = weights @ (drawn * apart) @ weights.transpose(0, 2, 1)  # (D + 1, G, G): sums of weighted pairs
    pairs = weights @ apart @ weights.transpose(0, 2, 1)
    same = np.eye(len(of_names), dtype=bool)
    shares = [differing[:, which].sum(1) / np.maximum(pairs[:, which].sum(1), 1e-12) for which in (~same, same)]
    excess = shares[0] - shares[1]
    return Flips(float(shares[0][0]), float(shares[1][0]), float(excess[0]), percentiles(excess[1:].tolist()))
