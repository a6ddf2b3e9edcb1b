"""Laws that nothing can break prove nothing: every deliberate mistake below must break one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from memspan import state as states
from memspan.mechanisms import attention, sink_window
from memspan.mechanisms.sink_window import SinkWindow
from tests.mechanisms import laws, test_sink_window
from tests.mechanisms.test_sink_window import EXAMPLE

Patch = Callable[[Any, str, Any], None]
CUTS = [7, 1, 13, 30, 1, 1, 12]


def ragged() -> Tensor:
    valid = torch.ones(3, sum(CUTS), dtype=torch.bool)
    valid[0, :9] = valid[1, 30:50] = valid[2, 3] = False
    return valid


def after_count(patch: Patch, change: Callable[[Any], dict[str, Any]]) -> None:
    """Lets the mechanism work with a count that is changed."""
    count = sink_window._count
    patch(sink_window, "_count", lambda *args: (one := count(*args))._replace(**change(one)))
    patch(sink_window, "_count_once", lambda *args: (one := count(*args))._replace(**change(one)))


def after_recall(patch: Patch, change: Callable[[Any, Any], tuple[Any, Any]]) -> None:
    """Lets the mechanism give back something else."""
    recall = SinkWindow.recall
    patch(SinkWindow, "recall", lambda *args: change(*recall(*args)))


def tokens_leave_one_by_one(patch: Patch) -> None:
    """The window slides with each token, and so depends on how the stream was cut."""
    slides = lambda seen, sinks, window, block: (  # noqa: E731
        (seen[:, None] - window).clamp_min(0),
        (seen[:, None] - window - sinks).clamp_min(0),
    )
    patch(sink_window, "_window_of", slides)


def segments_are_not_cut(patch: Patch) -> None:
    patch(SinkWindow, "pieces", lambda self, length, state=None, valid=None: [length])


def sinks_are_dropped(patch: Patch) -> None:
    count = sink_window._count
    without = lambda rule, *args: count((0, *rule[1:]), *args)  # noqa: E731
    patch(sink_window, "_count", without)
    patch(sink_window, "_count_once", without)


def the_window_is_a_block_too_long(patch: Patch) -> None:
    window_of = sink_window._window_of
    patch(sink_window, "_window_of", lambda seen, sinks, window, block: window_of(seen, sinks, window + block, block))


def a_query_sees_the_next_token(patch: Patch) -> None:
    patch(
        attention,
        "_causal",
        lambda queries, keys, device: torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + 1),
    )


def a_query_does_not_see_itself(patch: Patch) -> None:
    patch(
        attention,
        "_causal",
        lambda queries, keys, device: torch.ones(queries, keys, dtype=torch.bool).tril(max(0, keys - queries - 1)),
    )


def the_first_query_sees_the_first_key_only(patch: Patch) -> None:
    patch(attention, "_causal", lambda queries, keys, device: torch.ones(queries, keys, dtype=torch.bool).tril())


def queries_stay_where_they_were(patch: Patch) -> None:
    after_count(patch, lambda count: {"query_positions": count.query.clamp_min(0)})


def keys_stay_where_they_were(patch: Patch) -> None:
    after_count(patch, lambda count: {"key_positions": count.key.clamp_min(0)})


def padding_counts(patch: Patch) -> None:
    places = sink_window._places
    patch(sink_window, "_places", lambda length, seen, valid: places(length, seen, None))


def padding_is_seen(patch: Patch) -> None:
    after_recall(patch, lambda recalled, state: (recalled._replace(mask=None), state))


def nothing_leaves(patch: Patch) -> None:
    patch(sink_window, "_window_of", lambda seen, *_: (torch.zeros(1, 1).long(), torch.zeros(1, 1).long()))


def what_left_is_held(patch: Patch) -> None:
    """Right answers, but the state is a view of everything it was taken from."""
    take = sink_window._take
    patch(sink_window, "_take", lambda x, kept: torch.cat([x, take(x, kept)], 2)[:, :, x.shape[2] :])


def the_state_is_wiped(patch: Patch) -> None:
    after_recall(patch, lambda recalled, state: (recalled, None))


def the_state_is_written_in_place(patch: Patch) -> None:
    recall = SinkWindow.recall

    def writes(self: SinkWindow, q: Tensor, k: Tensor, v: Tensor, state: Any = None, valid: Any = None) -> Any:
        result = recall(self, q, k, v, state, valid)
        if state is not None:
            state["v"].data.mul_(0.5)
        return result

    patch(SinkWindow, "recall", writes)


def the_state_is_cut_off_from_the_graph(patch: Patch) -> None:
    after_recall(patch, lambda recalled, state: (recalled, states.detach(state)))


def rows_share_a_state(patch: Patch) -> None:
    after_recall(patch, lambda recalled, state: (recalled, {**state, "v": state["v"][:1].expand_as(state["v"])}))


def the_state_hides_in_the_mechanism(patch: Patch) -> None:
    recall = SinkWindow.recall

    def hides(self: SinkWindow, q: Tensor, k: Tensor, v: Tensor, state: Any = None, valid: Any = None) -> Any:
        recalled, after = recall(self, q, k, v, None if state is None else self.__dict__["hidden"], valid)
        self.__dict__["hidden"] = after
        return recalled, after

    patch(SinkWindow, "recall", hides)


def whole(example: laws.Example) -> None:
    laws.whole_equals_pieces(example, CUTS)


def unlimited(example: laws.Example) -> None:
    laws.unlimited_equals_plain_attention(example, CUTS)


def ahead(example: laws.Example) -> None:
    laws.never_sees_ahead(example, CUTS, 25)


def value(example: laws.Example) -> None:
    laws.state_is_a_value(example, CUTS)


def strangers(example: laws.Example) -> None:
    laws.rows_are_strangers(example, CUTS)


def bounded(example: laws.Example) -> None:
    laws.bounded_state_stops_growing(example, laws.segments(200, 9))


def bytes_held(example: laws.Example) -> None:
    mechanism = example.make()
    _, state = laws.read(mechanism, laws.random_stream(mechanism, 1, 120), [60, 60])
    numbers = laws.HEADS * laws.SIZE * 2
    assert states.nbytes(state) <= mechanism.capacity() * (numbers * 8 + 8) + 8


def padding(example: laws.Example) -> None:
    laws.padding_does_not_count(example, CUTS, ragged())


def reference(_: laws.Example) -> None:
    test_sink_window.test_outputs_and_gradients_equal_the_naive_reference.hypothesis.inner_test((3, 2, 8), CUTS)


MISTAKES: list[tuple[Callable[[Patch], None], Callable[[laws.Example], None]]] = [
    (tokens_leave_one_by_one, whole),
    (segments_are_not_cut, whole),
    (sinks_are_dropped, reference),
    (the_window_is_a_block_too_long, reference),
    (a_query_sees_the_next_token, ahead),
    (a_query_does_not_see_itself, unlimited),
    (the_first_query_sees_the_first_key_only, unlimited),
    (queries_stay_where_they_were, reference),
    (keys_stay_where_they_were, reference),
    (padding_counts, padding),
    (padding_is_seen, padding),
    (nothing_leaves, bounded),
    (what_left_is_held, bytes_held),
    (the_state_is_wiped, laws.state_carries_information),
    (the_state_is_written_in_place, value),
    (the_state_is_cut_off_from_the_graph, laws.gradients_reach_earlier_segments),
    (rows_share_a_state, strangers),
    (the_state_hides_in_the_mechanism, value),
]


@pytest.fixture(autouse=True)
def _counted_anew() -> Iterator[None]:
    """What was counted without a mistake must not stand in for what is counted with one, nor the other way round."""
    remembered = sink_window._count_once
    remembered.cache_clear()
    yield
    remembered.cache_clear()


@pytest.mark.parametrize("law", dict.fromkeys(law for _, law in MISTAKES), ids=lambda law: law.__name__)
def test_without_a_mistake_the_law_holds(law: Callable[[laws.Example], None]) -> None:
    law(EXAMPLE)


@pytest.mark.parametrize(("mistake", "law"), MISTAKES, ids=lambda function: function.__name__)
def test_a_mistake_breaks_its_law(
    mistake: Callable[[Patch], None], law: Callable[[laws.Example], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake(monkeypatch.setattr)
    with pytest.raises(AssertionError):
        law(EXAMPLE)
