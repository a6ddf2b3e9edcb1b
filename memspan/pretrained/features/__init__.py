"""Features of texts for a classifier that is fitted at once: the words of a text, and what pretrained models make of it.

One file and one line here for each kind; packages add others under the entry points `memspan.features`.
"""

from memspan.errors import UsageError
from memspan.plugins import load_plugin, plugin_names
from memspan.pretrained.features.base import Features, Sources
from memspan.pretrained.features.characters import Characters
from memspan.pretrained.features.sentences import Sentences
from memspan.pretrained.features.states import States
from memspan.pretrained.features.words import Words

__all__ = ["DEFAULT", "FEATURES", "Features", "Sources", "feature_class"]

FEATURES: dict[str, type[Features]] = {
    "characters": Characters,
    "sentences": Sentences,
    "states": States,
    "words": Words,
}
DEFAULT = ("words", "states", "sentences")
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
