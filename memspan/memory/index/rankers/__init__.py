"""Rankers: each scores all passages for a question in its own way; fusion makes one order of them.

An installed package adds a ranker with an entry point in the group `memspan.rankers`: a class like those here.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from memspan.errors import UsageError
from memspan.memory.index.rankers.base import Encoders, Ranker, Scores
from memspan.memory.index.rankers.heads import HeadRanker
from memspan.memory.index.rankers.meaning import MeaningRanker
from memspan.memory.index.rankers.words import WordRanker
from memspan.plugins import load_plugin, plugin_names

__all__ = ["GROUP", "RANKERS", "Encoders", "Ranker", "Scores", "make_rankers"]

GROUP = "memspan.rankers"
RankerClass: TypeAlias = Callable[[Encoders], Ranker]

RANKERS: Mapping[str, RankerClass] = {"heads": HeadRanker, "words": WordRanker, "meaning": MeaningRanker}


def make_rankers(encoders: Encoders) -> dict[str, Ranker]:
    """All rankers by name: those here, then those of other packages.

    Raises UsageError for a plugin that cannot be loaded, or that has the name of a ranker here.
    """
    classes: dict[str, RankerClass] = dict(RANKERS)
    for name in plugin_names(GROUP):
        if name in RANKERS:
            raise UsageError(f"The plugin '{name}' of {GROUP} must have another name: memspan has a ranker '{name}'.")
        plugin = load_plugin(GROUP, name)
        if plugin is not None:
            classes[name] = plugin
    return {name: ranker(encoders) for name, ranker in classes.items()}
