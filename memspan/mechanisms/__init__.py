"""What is remembered. One file is one mechanism; the only place that knows their names is this registry."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from memspan.errors import UsageError
from memspan.mechanisms.attention import Attention
from memspan.mechanisms.autoencoder import Autoencoder
from memspan.mechanisms.base import KVMechanism, Mechanism, Recalled
from memspan.mechanisms.bidirectional import Bidirectional
from memspan.mechanisms.compressed import Compressed
from memspan.mechanisms.delta import Delta
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

MECHANISMS: dict[str, type[KVMechanism] | type[Mechanism]] = {
    "attention": Attention,
    "autoencoder": Autoencoder,
    "bidirectional": Bidirectional,
    "compressed": Compressed,
    "delta": Delta,
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

ALIASES = {"transformer": "attention"}  # what else one may be called

DEFAULT = "sink_window"

__all__ = [
    "ALIASES",
    "DEFAULT",
    "MECHANISMS",
    "KVMechanism",
    "Mechanism",
    "Recalled",
    "build",
    "build_over_keys",
    "keep_everything",
    "mechanism_class",
    "settings_of",
    "window_only",
    "working_memory",
]


def mechanism_class(name: str) -> type[KVMechanism] | type[Mechanism]:
    """The class registered as `name`, or under the name that it stands for. Raises UsageError listing the known names."""
    name = ALIASES.get(name, name)
    if name not in MECHANISMS:
        raise UsageError(f"There is no mechanism '{name}'. Known: {', '.join(sorted(MECHANISMS))}.")
    return MECHANISMS[name]


def settings_of(name: str) -> list[str]:
    """What `build` can be told about a mechanism besides its name and width."""
    cls = mechanism_class(name)
    return _settings(cls) + (_settings(Attention) if issubclass(cls, KVMechanism) else [])


def build(width: int, name: str, **settings: Any) -> Mechanism:
    """A mechanism over hidden states (B, S, width), by its registered name.

    One over keys and values is read by multi-head attention, whose own settings (heads, positions, dropout) may stand
    among the mechanism's. Raises UsageError for an unknown name or setting, or a value that cannot be.
    """
    cls = mechanism_class(name)
    _check(name, settings, settings_of(name))
    if issubclass(cls, KVMechanism):
        attention = {setting: settings.pop(setting) for setting in _settings(Attention) if setting in settings}
        return Attention(width, over=cls(**settings), **attention)
    return cls(width, **settings)


def build_over_keys(name: str, /, **settings: Any) -> KVMechanism:
    """A mechanism over keys and values, by its registered name. Raises UsageError as `build` does, and for any other."""
    cls = mechanism_class(name)
    if not issubclass(cls, KVMechanism):
        raise UsageError(f"'{name}' works on hidden states; a pretrained model takes one over keys and values.")
    _check(name, settings, _settings(cls))
    return cls(**settings)


def _check(name: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = [setting for setting in settings if setting not in known]
    if unknown:
        raise UsageError(f"'{name}' has no setting '{unknown[0]}'; it knows {', '.join(known) or 'none'}.")


def _settings(cls: type[KVMechanism] | type[Mechanism]) -> list[str]:
    """What a constructor takes besides what `build` itself gives it."""
    return [setting for setting in inspect.signature(cls).parameters if setting not in ("width", "over")]


def keep_everything() -> KVMechanism:
    """A mechanism that computes what the plain model computes: every token is seen by all that follow it."""
    return SinkWindow(sinks=0, window=None)


def working_memory(positions: int) -> KVMechanism:
    """The default mechanism as it is by default, or as much of it as a model trained on fewer `positions` can place."""
    sinks, block = min(4, positions // 4), min(128, positions // 2)
    return SinkWindow(sinks, min(1024, (positions - sinks) // block * block), block)


def window_only(window: int) -> dict[str, Any]:
    """The part of a model that sees the current block of `window` tokens and nothing before it."""
    return {"name": DEFAULT, "sinks": 0, "window": window, "block": window}
