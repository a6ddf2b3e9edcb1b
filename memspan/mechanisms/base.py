"""The two interfaces of a memory mechanism: over hidden states, and over keys and values.

Letters: B batch, S tokens of the segment, N keys recalled, D model width, H heads, K head size.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from memspan.state import State

PLUGIN_GROUP = "memspan.mechanisms"  # the entry points under which other packages register theirs
Bounds = tuple[float, float]
SHARE: Bounds = (0.0, 1.0)  # the bounds of a sigmoid or a softmax: a share of something
SIGNED_UNIT: Bounds = (-1.0, 1.0)  # the bounds of a tanh


class Meaning(NamedTuple):
    """What a quantity computed at every token stands for, and the bounds between which it lies (None: unbounded)."""

    text: str
    bounds: Bounds | None = None


@dataclass(frozen=True)
class Gate:
    """A gate, or another quantity that a mechanism computes at every token.

    Attributes:
        value: (B, S, ...), batch first.
        meaning: a noun phrase, such as "share of the old state that is kept".
        shape: the letters of its dimensions, such as "B S layers H".
        bounds: the smallest and the largest value it can take, `SHARE` for a gate proper; None if it is unbounded.
    """

    value: Tensor
    meaning: str
    shape: str
    bounds: Bounds | None = None


@dataclass(frozen=True)
class AttentionWeights:
    """The attention weights of a segment's tokens.

    Attributes:
        weights: (B, S, H, N), sums of 1 over the keys that a query sees; 0 for a key that it does not see.
        positions: (B, S, N) int64, the index in the segment of the token that each key belongs to (of a pooled key the
            middle one), -1 for none; None if the segment was not the first one, so that keys of earlier tokens are among
            them.
        scores: (B, S, H, N), the logits of the softmax, -inf for a key that the query does not see; None if there is
            more than one softmax.
    """

    weights: Tensor
    positions: Tensor | None = None
    scores: Tensor | None = None


@dataclass(frozen=True)
class Internals:
    """The quantities that a mechanism computed on the way to its output, for `memspan trace` and `memspan explain`."""

    gates: Mapping[str, Gate] = field(default_factory=dict)
    attention: AttentionWeights | None = None


@dataclass(frozen=True)
class TraceInput:
    """How `memspan trace` builds a mechanism of a given hidden size and feeds it a list of numbers.

    Attributes:
        hidden: the setting that takes the hidden size, if the mechanism has one apart from its width: it is then built
            with a width of 1 and reads each number as it is. None: the hidden size is the width, and each number goes
            through a random linear layer.
        settings: settings that suit so small a width, unless the user gives them.
    """

    hidden: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Resizable:
    """What a mechanism says about the size of its state, so that mechanisms can be compared at equal bytes."""

    @classmethod
    def settings_of_size(cls, size: int) -> dict[str, Any] | None:
        """Settings whose state grows with `size`, from 1 upwards; None where no setting bounds or enlarges the state."""
        return None


class Mechanism(Resizable, nn.Module, ABC):
    """The rule `(x, state) -> (y, state)` over hidden states. The first argument of every constructor is the width D.

    Attributes:
        plugin_group: where `memspan.register` puts a class of this kind.
        causal: no token sees a later one; only such a mechanism can model language from left to right.
        trace_input: how `memspan trace` feeds it.
        grid: a stream may be cut at multiples of `grid` tokens without changing the output.
    """

    plugin_group: ClassVar[str] = PLUGIN_GROUP
    causal: ClassVar[bool] = True
    trace_input: ClassVar[TraceInput] = TraceInput()
    grid: int = 1

    @abstractmethod
    def forward(self, x: Tensor, state: State = None, valid: Tensor | None = None) -> tuple[Tensor, State]:
        """x (B, S, D) -> y (B, S, D) and the state after the segment. `state=None` is the state before the first token.

        `valid` (B, S) bool is false at padding, which is not read: the outputs and the state of a row are those that it has
        without its padding. y is arbitrary there, but finite. None means that there is none. A segment without tokens
        leaves the state as it was.

        A mechanism with an objective of its own stores its loss, (B,), in the state under the key "loss", from where
        the training loop takes it (`memspan.state.losses`): the mean since gradients were cut last, which
        `memspan.state.with_losses` computes.
        """

    def forward_with_internals(self, x: Tensor, state: State = None) -> tuple[Tensor, State, Internals]:
        """The same as `forward`, and the gates and attention weights behind y. Without an override there are none."""
        y, state = self(x, state)
        return y, state, Internals()


class Recalled(NamedTuple):
    """The keys and values that the queries of one segment may attend to, and their positions.

    Keys are un-rotated: the attention rotates them to `key_positions`, which the mechanism assigns anew for every segment
    so that they stay inside the window the model was trained on. The batch size of the mask and of the positions may be
    1 if they are the same for all rows.

    Attributes:
        k, v: (B, H, N, K), k un-rotated.
        mask: (B, S, N) bool, true where a query sees a key. None: the last S keys are the segment's own, and each query
            sees all keys up to its own.
        key_positions: (B, N) int64.
        query_positions: (B, S) int64.
        added: (B, Hq, S, K), what the mechanism itself found for the queries, which is added to what they attend to; None:
            nothing.
    """

    k: Tensor
    v: Tensor
    mask: Tensor | None
    key_positions: Tensor
    query_positions: Tensor
    added: Tensor | None = None


class KVMechanism(Resizable, nn.Module, ABC):
    """The rule that turns the keys and values of a segment, and the state, into those its queries attend to."""

    plugin_group: ClassVar[str] = PLUGIN_GROUP
    rate: int = 1  # tokens that share a key and a value in the condensed form

    @abstractmethod
    def recall(
        self, q: Tensor, k: Tensor, v: Tensor, state: State = None, valid: Tensor | None = None
    ) -> tuple[Recalled, State]:
        """q (B, Hq, S, K), k and v (B, H, S, K), all un-rotated -> the keys these queries see, and the state after them.

        `valid` (B, S) bool is false at padding, which is neither seen nor stored; None means that there is none.
        S must be one of the lengths that `split_lengths` returned.
        """

    def make_weights(self, heads: int, size: int) -> None:
        """Makes the weights whose shapes depend on the number of key heads H and the head size K.

        Whatever attaches a mechanism to a model calls it before the first segment and before the weights are trained,
        loaded or moved. A second call with the same shape changes nothing.
        """

    def condensed(self, state: State) -> State:
        """The state in which everything read so far has the form of what has left the window.

        A mechanism without such a form returns the state as it is.
        """
        return state

    def condensed_keys(self, state: State) -> Tensor | None:
        """The keys, un-rotated, and the values of what has the condensed form, the oldest first: (B, M, 2, H, K).

        None for a mechanism without such a form.
        """
        return None

    def followed_by(self, state: State, slots: Tensor) -> State:
        """The state once texts have been read whose condensed form is `slots`, (B, M, 2, H, K) as `condensed_keys` returns them.

        What was read before must be condensed as a whole. A mechanism without such a form returns the state as it is.
        """
        return state

    def columns_before(self, length: int, state: State = None) -> Tensor | None:
        """How many empty columns (B,) to leave before the text of each row, so that few parts suffice for rows of which
        earlier segments held different numbers of tokens; None: none."""
        return None

    def split_lengths(self, length: int, state: State = None, valid: Tensor | None = None) -> list[int]:
        """Lengths, summing to `length`, of the consecutive parts of a segment that are passed to `recall` one by one."""
        return [length]

    def capacity(self) -> int | None:
        """The largest position it ever assigns, plus one; None if only the length of the stream bounds it."""
        return None
