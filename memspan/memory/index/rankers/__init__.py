"""Rankers: each scores all passages for a question in its own way; fusion makes one order of them.

An installed package adds a ranker with an entry point in the group `memspan.rankers`: a class like those here.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from memspan.errors import UsageError
from memspan.memory.index.rankers.base import Encoders, PartRanker, Ranker, Scores
from memspan.memory.index.rankers.heads import HeadRanker
from memspan.memory.index.rankers.meaning import MeaningRanker
from memspan.memory.index.rankers.words import WordRanker
from memspan.memory.view import View
from memspan.plugins import load_plugin, plugin_names

__all__ = ["GROUP", "RANKERS", "Encoders", "PartRanker", "Ranker", "Scores", "make_rankers", "rank", "ranker_classes"]

GROUP = "memspan.rankers"
RankerClass: TypeAlias = Callable[[Encoders], Ranker]

RANKERS: Mapping[str, RankerClass] = {"heads": HeadRanker, "words": WordRanker, "meaning": MeaningRanker}


def ranker_classes() -> dict[str, RankerClass]:
    """The rankers that take part in every search, by name: "heads", "words" and "meaning", then those of other packages.

    A package registers its class as an entry point in the group `memspan.rankers`, and `LanguageModel` makes one object of
    it. What it adds to the score of a passage, beside the others, is limited, whatever the scale of its scores.

    Raises UsageError for a plugin that cannot be loaded, or that has the name of a ranker here.
    """
    classes: dict[str, RankerClass] = dict(RANKERS)
    for name in plugin_names(GROUP):
        if name in RANKERS:
            raise UsageError(f"The plugin '{name}' of {GROUP} must have another name: memspan has a ranker '{name}'.")
        plugin = load_plugin(GROUP, name)
        if plugin is not None:
            classes[name] = plugin
    return classes


def make_rankers(encoders: Encoders) -> dict[str, Ranker]:
    """All rankers by name. Raises UsageError as `ranker_classes` does, and for a plugin that makes no ranker."""
    rankers = {name: cls(encoders) if callable(cls) else cls for name, cls in ranker_classes().items()}
    for name, ranker in rankers.items():
        if not isinstance(ranker, Ranker):
            raise UsageError(
                f"The plugin '{name}' of {GROUP} must be a class like memspan.Ranker, with a method `scores`, got "
                f"{type(ranker).__name__}."
            )
    return rankers


def rank(rankers: Mapping[str, Ranker], view: View, question: str) -> dict[str, Scores]:
    """The scores of the passages by each ranker that does not abstain, float32 (P,).

    Raises UsageError for scores that are not one finite number for each passage.
    """
    rankings = {}
    for name, ranker in rankers.items():
        scores = ranker.scores(view, question)
        if scores is not None:
            rankings[name] = _checked(name, scores, len(view))
    return rankings


def _checked(name: str, scores: Scores, passages: int) -> Scores:
    numbers = np.asarray(scores, np.float32)
    if numbers.shape != (passages,) or not np.isfinite(numbers).all():
        found = f"{numbers.shape}" if numbers.shape != (passages,) else "NaN or infinity among them"
        raise UsageError(
            f"The scores of the ranker '{name}' must be finite numbers of shape ({passages},), one for each passage, "
            f"got {found}."
        )
    return numbers
