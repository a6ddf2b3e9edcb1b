"""The registry of memory mechanisms. One file is one mechanism; nothing else in the package knows their names."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from memspan.errors import UnknownName, UsageError
from memspan.mechanisms.associative import Associative
from memspan.mechanisms.attention import Attention
from memspan.mechanisms.autoencoder import Autoencoder
from memspan.mechanisms.base import (
    PLUGIN_GROUP,
    AttentionWeights,
    Gate,
    Internals,
    KVMechanism,
    Mechanism,
    Recalled,
    TraceInput,
)
from memspan.mechanisms.bidirectional import Bidirectional
from memspan.mechanisms.compressed import Compressed
from memspan.mechanisms.delta import Delta
from memspan.mechanisms.gist import Gist
from memspan.mechanisms.gru import GRU
from memspan.mechanisms.hierarchical import Hierarchical
from memspan.mechanisms.lstm import LSTM
from memspan.mechanisms.ltm import LTM
from memspan.mechanisms.memory_tokens import MemoryTokens
from memspan.mechanisms.neural import Neural
from memspan.mechanisms.retrieval import Retrieval
from memspan.mechanisms.rnn import RNN
from memspan.mechanisms.segment import Segment
from memspan.mechanisms.sink_window import SinkWindow
from memspan.plugins import load_plugin, plugin_names, reserve

MECHANISMS: dict[str, type[KVMechanism] | type[Mechanism]] = {
    "associative": Associative,
    "attention": Attention,
    "autoencoder": Autoencoder,
    "bidirectional": Bidirectional,
    "compressed": Compressed,
    "delta": Delta,
    "gist": Gist,
    "gru": GRU,
    "hierarchical": Hierarchical,
    "lstm": LSTM,
    "ltm": LTM,
    "memory_tokens": MemoryTokens,
    "neural": Neural,
    "retrieval": Retrieval,
    "rnn": RNN,
    "segment": Segment,
    "sink_window": SinkWindow,
}

GROUP = PLUGIN_GROUP
reserve(GROUP, MECHANISMS)

ALIASES = {"transformer": "attention"}

DEFAULT = "sink_window"
OVER_SEGMENTS = ("gru", "delta", "attention")  # that a memory over the features of segments is chosen from
OVER_TURNS = "gru"  # over the turns of a conversation: the best of those that were compared, see LOG.md

__all__ = [
    "ALIASES",
    "DEFAULT",
    "GROUP",
    "MECHANISMS",
    "OVER_SEGMENTS",
    "OVER_TURNS",
    "AttentionWeights",
    "Gate",
    "Internals",
    "KVMechanism",
    "Mechanism",
    "Recalled",
    "TraceInput",
    "build",
    "build_over_keys",
    "condensing",
    "keep_everything",
    "mechanism_class",
    "mechanism_names",
    "over_hidden_states",
    "settings_of",
    "takes_valid",
    "trace_input",
    "trained_memory",
    "window_only",
    "working_memory",
]


def mechanism_names() -> list[str]:
    """The names of all mechanisms, those of installed plugins included, sorted; no plugin is imported."""
    return sorted({*MECHANISMS, *plugin_names(GROUP)})


def mechanism_class(name: str) -> type[KVMechanism] | type[Mechanism]:
    """The class registered as `name`, here or as an entry point of another package, or under the name it is an alias of.

    Raises UsageError for an unknown name, listing the known ones, and for a plugin that is not a mechanism.
    """
    name = ALIASES.get(name, name)
    if name in MECHANISMS:
        return MECHANISMS[name]
    plugin = load_plugin(GROUP, name)
    if plugin is None:
        raise UnknownName("mechanism", name, mechanism_names())
    if not (isinstance(plugin, type) and issubclass(plugin, KVMechanism | Mechanism)):
        raise UsageError(
            f"The plugin '{name}' of {GROUP} must be a subclass of Mechanism or KVMechanism, got {plugin!r}."
        )
    return plugin


def settings_of(name: str) -> list[str]:
    """The settings that `build` accepts for a mechanism."""
    cls = mechanism_class(name)
    return _settings(cls) + (_settings(Attention) if issubclass(cls, KVMechanism) else [])


def trace_input(name: str) -> TraceInput:
    """How `memspan trace` feeds the mechanism that `build` returns for a name."""
    cls = mechanism_class(name)
    return Attention.trace_input if issubclass(cls, KVMechanism) else cls.trace_input


def build(width: int, name: str, **settings: Any) -> Mechanism:
    """A mechanism over hidden states (B, S, width), by its registered name.

    A mechanism over keys and values is read by multi-head attention, whose settings (heads, positions, dropout) are
    accepted beside its own. Raises UsageError for an unknown name or setting, or a value out of range.
    """
    cls = mechanism_class(name)
    _check(name, settings, settings_of(name))
    if issubclass(cls, KVMechanism):
        attention = {setting: settings.pop(setting) for setting in _settings(Attention) if setting in settings}
        return over_hidden_states(width, cls(**settings), **attention)
    return cls(width, **settings)


def over_hidden_states(width: int, mechanism: KVMechanism, **settings: Any) -> Mechanism:
    """Multi-head attention over hidden states (B, S, width) to the keys that a mechanism recalls, with its own settings."""
    return Attention(width, over=mechanism, **settings)


def takes_valid(mechanism: Mechanism) -> bool:
    """Whether a mechanism can leave out padding: `forward` of another package's may have no argument `valid`."""
    return "valid" in inspect.signature(mechanism.forward).parameters


def build_over_keys(name: str, /, **settings: Any) -> KVMechanism:
    """A mechanism over keys and values, by its registered name.

    Raises UsageError as `build` does, and for a mechanism over hidden states.
    """
    cls = mechanism_class(name)
    if not issubclass(cls, KVMechanism):
        raise UsageError(f"'{name}' works on hidden states; a pretrained model takes one over keys and values.")
    _check(name, settings, _settings(cls))
    return cls(**settings)


def _check(name: str, settings: Mapping[str, Any], accepted: Sequence[str]) -> None:
    unknown = [setting for setting in settings if setting not in accepted]
    if unknown:
        raise UsageError(f"'{name}' has no setting '{unknown[0]}'. Known: {', '.join(accepted) or 'none'}.")


def _settings(cls: type[KVMechanism] | type[Mechanism]) -> list[str]:
    """The parameters of a constructor except those that `build` itself supplies."""
    return [setting for setting in inspect.signature(cls).parameters if setting not in ("width", "over")]


def keep_everything() -> KVMechanism:
    """A mechanism that computes what the plain model computes: every token is seen by all later ones."""
    return SinkWindow(sinks=0, window=None)


def working_memory(positions: int) -> KVMechanism:
    """The default mechanism with its default settings, reduced to the `positions` that a model was trained on."""
    sinks, block = min(4, positions // 4), min(128, positions // 2)
    return SinkWindow(sinks, min(1024, (positions - sinks) // block * block), block)


def trained_memory(window: int) -> dict[str, Any]:
    """The settings of the mechanism with weights that compresses every block of `window` tokens but the current one."""
    return {"name": "gist", "window": window, "block": window}


def condensing(tokens: int) -> dict[str, Any]:
    """The settings of that mechanism with which nothing leaves the window until `KVMechanism.condensed` is called, and all
    of `tokens` tokens are kept then."""
    return {"name": trained_memory(1)["name"], "window": None, "slots": tokens}


def window_only(window: int) -> dict[str, Any]:
    """The settings of a mechanism that sees the current block of `window` tokens and nothing before it."""
    return {"name": DEFAULT, "sinks": 0, "window": window, "block": window}
