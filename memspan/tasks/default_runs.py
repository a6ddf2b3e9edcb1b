"""How a task is learned where nobody says how: the options of a run that a task declares, and when it takes them."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

LENGTH = frozenset({"steps", "seconds"})
OF_A_MEMORY = frozenset({"mechanism", "mechanism_settings"})
OF_SCRATCH = (
    LENGTH | OF_A_MEMORY | {"width", "depth", "window", "layers", "init_from", "curriculum", "augment"}
)  # options that say how a model from scratch is made or trained


class DefaultRun(NamedTuple):
    """A run of a pretrained model, or of the one that `options` name.

    Names are those of options of `memspan train`, and of settings of the task.

    Attributes:
        options: of the run; those that a user gives stay.
        settings: of the task, likewise.
        needs: names of which each must be given.
        unless: names of which none may be given: they choose another model.
        is_sized: whether the length of the run and of a segment follow from the size of the data, where nobody gives them.
    """

    options: Mapping[str, Any]
    settings: Mapping[str, Any] = {}
    needs: frozenset[str] = frozenset()
    unless: frozenset[str] = OF_SCRATCH
    is_sized: bool = False

    def suits(self, given: Collection[str]) -> bool:
        """Whether a user who gives these options and settings leaves the model to the task."""
        return self.needs <= {*given} and not self.unless & {*given}


# Answers in words of the text, which a pretrained model helps to choose.
EXTRACTED = DefaultRun({"extract": True, "precision": "auto"}, unless=OF_SCRATCH | {"lora", "features"})
