"""Features of texts for a classifier that is fitted at once: the words of a text, and what pretrained models make of it.

One file and one line here for each kind; packages add others under the entry points `memspan.features`.
"""

from collections.abc import Sequence

from memspan.errors import UsageError
from memspan.plugins import load_plugin, plugin_names
from memspan.pretrained.features.base import Features, Sources
from memspan.pretrained.features.characters import Characters
from memspan.pretrained.features.sentences import Sentences
from memspan.pretrained.features.states import States
from memspan.pretrained.features.words import Words

__all__ = ["AUTO", "DEFAULT", "FEATURES", "Features", "Sources", "choose", "feature_class"]

FEATURES: dict[str, type[Features]] = {
    "characters": Characters,
    "sentences": Sentences,
    "states": States,
    "words": Words,
}
DEFAULT = ("words", "states", "sentences")
AUTO = "auto"  # instead of kinds: those that suit the texts, see `choose`
GROUP = "memspan.features"


def feature_class(name: str) -> type[Features]:
    """The class of a kind of features. Raises UsageError, listing the known kinds, for any other."""
    known = FEATURES.get(name) or load_plugin(GROUP, name)
    if known is None:
        names = ", ".join(sorted({*FEATURES, *plugin_names(GROUP)}))
        raise UsageError(f"Features must be some of {names}, got '{name}'.")
    if not (isinstance(known, type) and issubclass(known, Features)):
        raise UsageError(f"The plugin '{name}' of {GROUP} must be a subclass of Features, got {known!r}.")
    return known


def choose(
    texts: Sequence[str], sources: Sources, among: Sequence[str] = tuple(FEATURES)
) -> tuple[list[str], dict[str, str]]:
    """The kinds of features that suit texts, and why each of the others `among` them does not.

    The script of the texts decides, what the models know of it, and the time that reading them would take.
    """
    objections = {name: cls(sources).objection(texts) for name, cls in FEATURES.items() if name in among}
    left_out = {name: reason for name, reason in objections.items() if reason is not None}
    return [name for name in objections if name not in left_out], left_out
