"""Laws that nothing can break prove nothing: every deliberate mistake below must break one."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from memspan import state as states
from memspan import testing as laws
from memspan.mechanisms import autoencoder, delta, ltm, neural
from memspan.mechanisms.autoencoder import Autoencoder
from memspan.mechanisms.compressed import Compressed
from memspan.mechanisms.delta import Delta
from memspan.mechanisms.layers import attention
from memspan.mechanisms.layers import window as windows
from memspan.mechanisms.layers.segmented import Segmented
from memspan.mechanisms.layers.transformer_layer import TransformerLayer
from memspan.mechanisms.memory_tokens import MemoryTokens
from memspan.mechanisms.retrieval import Retrieval
from memspan.mechanisms.sink_window import SinkWindow
from tests.mechanisms import (
    test_autoencoder,
    test_compressed,
    test_delta,
    test_ltm,
    test_memory_tokens,
    test_neural,
    test_retrieval,
    test_sink_window,
)
from tests.mechanisms.test_sink_window import EXAMPLE

Patch = Callable[[Any, str, Any], None]
CUTS = [7, 1, 13, 30, 1, 1, 12]


def ragged() -> Tensor:
    valid = torch.ones(3, sum(CUTS), dtype=torch.bool)
    valid[0, :9] = valid[1, 30:50] = valid[2, 3] = False
    return valid


def after_count(patch: Patch, change: Callable[[Any], dict[str, Any]]) -> None:
    """Lets the mechanism work with a count that is changed."""
    count = windows.update_window
    patch(windows, "update_window", lambda *args: (one := count(*args))._replace(**change(one)))
    patch(windows, "update_window_once", lambda *args: (one := count(*args))._replace(**change(one)))


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
    patch(windows, "window_start", slides)


def segments_are_not_cut(patch: Patch) -> None:
    patch(SinkWindow, "split_lengths", lambda self, length, state=None, valid=None: [length])


def sinks_are_dropped(patch: Patch) -> None:
    count = windows.update_window
    without = lambda rule, *args: count(rule._replace(sinks=0), *args)  # noqa: E731
    patch(windows, "update_window", without)
    patch(windows, "update_window_once", without)


def the_window_is_a_block_too_long(patch: Patch) -> None:
    window_of = windows.window_start
    patch(windows, "window_start", lambda seen, sinks, window, block: window_of(seen, sinks, window + block, block))


def a_query_sees_the_next_token(patch: Patch) -> None:
    patch(
        attention,
        "causal_mask",
        lambda queries, keys, device: torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries + 1),
    )


def a_query_does_not_see_itself(patch: Patch) -> None:
    patch(
        attention,
        "causal_mask",
        lambda queries, keys, device: torch.ones(queries, keys, dtype=torch.bool).tril(max(0, keys - queries - 1)),
    )


def the_first_query_sees_the_first_key_only(patch: Patch) -> None:
    patch(attention, "causal_mask", lambda queries, keys, device: torch.ones(queries, keys, dtype=torch.bool).tril())


def queries_stay_where_they_were(patch: Patch) -> None:
    after_count(patch, lambda update: {"query_positions": update.query_index.clamp_min(0)})


def keys_stay_where_they_were(patch: Patch) -> None:
    after_count(patch, lambda update: {"key_positions": update.key_index.clamp_min(0)})


def padding_counts(patch: Patch) -> None:
    places = windows.token_indices
    patch(windows, "token_indices", lambda length, seen, valid: places(length, seen, None))


def padding_is_seen(patch: Patch) -> None:
    after_recall(patch, lambda recalled, state: (recalled._replace(mask=None), state))


def nothing_leaves(patch: Patch) -> None:
    patch(windows, "window_start", lambda seen, *_: (torch.zeros(1, 1).long(), torch.zeros(1, 1).long()))


def what_left_is_held(patch: Patch) -> None:
    """Right answers, but the state is a view of everything it was taken from."""
    take = windows.take
    patch(windows, "take", lambda x, kept: torch.cat([x, take(x, kept)], 2)[:, :, x.shape[2] :])


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
    laws.whole_equals_segments(example, CUTS)


def unlimited(example: laws.Example) -> None:
    laws.unlimited_equals_plain_attention(example, CUTS)


def ahead(example: laws.Example) -> None:
    laws.never_sees_ahead(example, CUTS, 25)


def value(example: laws.Example) -> None:
    laws.state_is_a_value(example, CUTS)


def strangers(example: laws.Example) -> None:
    laws.rows_are_strangers(example, CUTS)


def bounded(example: laws.Example) -> None:
    laws.bounded_state_stops_growing(example, laws.split(200, 9))


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


# ---- the same for mechanisms over hidden states, and for those that choose or pool


def after_forward(patch: Patch, cls: Any, change: Callable[[Tensor, Any], tuple[Tensor, Any]]) -> None:
    forward = cls.forward
    patch(cls, "forward", lambda *args: change(*forward(*args)))


def what_is_corrected_is_added(patch: Patch) -> None:
    """M = a (I + b k k^T) M + b k v^T."""
    rule = delta.gated_delta_rule
    patch(delta, "gated_delta_rule", lambda q, k, v, decay, rate, *rest: rule(q, k, -v, decay, -rate, *rest))


def nothing_is_corrected(patch: Patch) -> None:
    rule = delta.gated_delta_rule
    patch(delta, "gated_delta_rule", lambda *args: rule(*args[:-1], False))


def a_chunk_begins_without_decay(patch: Patch) -> None:
    rule = delta.gated_delta_rule

    def forgets_to_forget(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, *rest: Any) -> Any:
        decay = decay.clone()
        decay[:, :, :: rest[1]] = 0
        return rule(q, k, v, decay, rate, *rest)

    patch(delta, "gated_delta_rule", forgets_to_forget)


def keys_are_not_normalised(patch: Patch) -> None:
    patch(delta, "l2_normalize", lambda x: x)


def the_convolution_begins_anew(patch: Patch) -> None:
    after_forward(patch, Delta, lambda y, state: (y, {**state, "recent": torch.zeros_like(state["recent"])}))


def the_matrix_is_wiped(patch: Patch) -> None:
    after_forward(patch, Delta, lambda y, state: (y, None))


def the_matrix_is_detached(patch: Patch) -> None:
    after_forward(patch, Delta, lambda y, state: (y, states.detach(state)))


def the_matrix_is_that_of_the_first_row(patch: Patch) -> None:
    after_forward(
        patch, Delta, lambda y, state: (y, {**state, "memory": state["memory"][:1].expand_as(state["memory"])})
    )


def open_tokens_are_lost(patch: Patch) -> None:
    after_forward(patch, Segmented, lambda y, state: (y, {**state, "open": state["open"][:, :0]}))


def open_tokens_are_kept_too_long(patch: Patch) -> None:
    """Nothing is written: all tokens wait for ever."""

    def waits(self: Segmented, x: Tensor, state: Any = None) -> Any:
        tokens = x.clone() if state is None else torch.cat([state["open"], x], 1)
        return x, {"memory": self.initial(x), "open": tokens}

    patch(Segmented, "forward", waits)


def a_segment_is_written_before_it_is_read(patch: Patch) -> None:
    def turn(self: Segmented, x: Tensor, code: Tensor, memory: Any) -> Any:
        memory = self.write(code, memory)
        return self.read(x, memory), memory

    patch(Segmented, "read_and_write", turn)


def every_segment_finds_the_first_memory(patch: Patch) -> None:
    after_forward(
        patch, Segmented, lambda y, state: (y, {**state, "memory": pytree.tree_map(torch.zeros_like, state["memory"])})
    )


def the_memory_is_detached(patch: Patch) -> None:
    after_forward(patch, Segmented, lambda y, state: (y, states.detach(state)))


def tokens_see_all_of_their_segment(patch: Patch) -> None:
    forward = TransformerLayer.forward
    patch(TransformerLayer, "forward", lambda self, x, mask: forward(self, x))


def write_tokens_do_not_see_the_segment(patch: Patch) -> None:
    """They see the memory and one another, so that it never changes with what was read."""
    run = MemoryTokens._run

    def blind(self: MemoryTokens, x: Tensor) -> Tensor:
        y = run(self, x)
        if x.shape[1] <= self.tokens + self.segment:
            return y
        unread = torch.cat([x[:, : self.tokens], torch.zeros_like(x[:, : self.segment]), x[:, -self.tokens :]], 1)
        return torch.cat([y[:, : -self.tokens], run(self, unread)[:, -self.tokens :]], 1)

    patch(MemoryTokens, "_run", blind)


def empty_latents_are_seen(patch: Patch) -> None:
    attend = autoencoder.scaled_dot_product_attention
    patch(autoencoder, "scaled_dot_product_attention", lambda q, k, v, attn_mask: attend(q, k, v))


def slots_forget_at_once(patch: Patch) -> None:
    patch(ltm, "SLOT_FORGET_BIAS", -4.0)


def the_loss_is_that_of_the_last_segment(patch: Patch) -> None:
    write = Autoencoder.write

    def forgets(self: Autoencoder, code: Tensor, memory: Any) -> Any:
        return {**write(self, code, memory), "loss": code[..., -1].mean(1)}

    patch(Autoencoder, "write", forgets)


def the_inner_step_goes_uphill(patch: Patch) -> None:
    gradient = neural.gradient
    patch(neural, "gradient", lambda *args: tuple(-g for g in gradient(*args)))


def the_inner_step_is_not_differentiable(patch: Patch) -> None:
    gradient = neural.gradient
    patch(neural, "gradient", lambda *args: tuple(g.detach() for g in gradient(*args)))


def the_inner_step_is_as_long_as_it_likes(patch: Patch) -> None:
    patch(neural, "soft_clip", lambda x: x)


def the_own_block_is_seen_to_its_end(patch: Patch) -> None:
    patch(
        windows,
        "visible",
        lambda key_index, query_index: (key_index >= 0)[:, None].expand(-1, query_index.shape[1], -1),
    )


def a_query_reads_what_another_chose(patch: Patch) -> None:
    choose = Retrieval._choose

    def shares(*args: Any) -> tuple[Tensor, Tensor]:
        columns, chosen = choose(*args)
        return columns, chosen.any(1, keepdim=True).expand_as(chosen)

    patch(Retrieval, "_choose", shares)


def the_worst_blocks_are_read(patch: Patch) -> None:
    choose = Retrieval._choose
    patch(Retrieval, "_choose", lambda self, q, *rest: choose(self, -q, *rest))


def retrieved_keys_are_detached(patch: Patch) -> None:
    keep = windows.store

    def cut_off(rule: Any, k: Tensor, v: Tensor, state: Any, valid: Any) -> Any:
        return keep(rule, k, v, None if state is None else states.detach(state), valid)

    patch(windows, "store", cut_off)


def the_newest_slots_are_dropped(patch: Patch) -> None:
    patch(
        Compressed,
        "_push",
        lambda self, slots, gone: torch.cat([self._pool(gone), slots], 2)[:, :, : self.slots],
    )


def what_leaves_is_pooled_for_every_row(patch: Patch) -> None:
    """Also for a row from which nothing left."""
    patch(torch.Tensor, "any", lambda x, *dim: torch.ones_like(x[:, 0]) if dim == (1,) else torch.any(x, *dim))


def delta_reference(_: laws.Example) -> None:
    test_delta.test_outputs_memory_and_gradients_equal_the_recurrence.hypothesis.inner_test(
        "delta", 4, 4, 1.0, CUTS, 0.0, 1.0
    )


def tokens_reference(_: laws.Example) -> None:
    test_memory_tokens.test_outputs_memory_and_gradients_equal_the_naive_reference.hypothesis.inner_test([7, 8])


def autoencoder_reference(_: laws.Example) -> None:
    test_autoencoder.test_outputs_loss_and_gradients_equal_the_naive_reference.hypothesis.inner_test(5, [7, 1, 13])


def neural_reference(_: laws.Example) -> None:
    test_neural.test_outputs_and_gradients_equal_the_naive_reference.hypothesis.inner_test([7, 1, 13])


def overflow(_: laws.Example) -> None:
    test_neural.nothing_overflows(steps=500)


def slow_forgetting(_: laws.Example) -> None:
    test_ltm.test_a_new_memory_forgets_slowly()


def retrieval_reference(_: laws.Example) -> None:
    test_retrieval.test_outputs_and_gradients_equal_the_naive_reference.hypothesis.inner_test((3, 2, 1, None), CUTS[:4])


def compressed_reference(_: laws.Example) -> None:
    test_compressed.test_outputs_loss_and_gradients_equal_the_naive_reference.hypothesis.inner_test(
        (4, 1, 2, 8), CUTS[:4]
    )


ELSEWHERE: list[tuple[Callable[[Patch], None], Callable[[laws.Example], None], laws.Example]] = [
    (what_is_corrected_is_added, delta_reference, test_delta.EXAMPLE),
    (nothing_is_corrected, delta_reference, test_delta.EXAMPLE),
    (a_chunk_begins_without_decay, whole, test_delta.EXAMPLE),
    (keys_are_not_normalised, delta_reference, test_delta.EXAMPLE),
    (the_convolution_begins_anew, whole, test_delta.EXAMPLE),
    (the_matrix_is_wiped, laws.state_carries_information, test_delta.EXAMPLE),
    (the_matrix_is_detached, laws.gradients_reach_earlier_segments, test_delta.EXAMPLE),
    (the_matrix_is_that_of_the_first_row, strangers, test_delta.EXAMPLE),
    (open_tokens_are_lost, whole, test_neural.EXAMPLE),
    (open_tokens_are_kept_too_long, bounded, test_neural.EXAMPLE),
    (a_segment_is_written_before_it_is_read, ahead, test_neural.EXAMPLE),
    (every_segment_finds_the_first_memory, laws.state_carries_information, test_neural.EXAMPLE),
    (the_memory_is_detached, laws.gradients_reach_earlier_segments, test_memory_tokens.EXAMPLE),
    (tokens_see_all_of_their_segment, whole, test_memory_tokens.EXAMPLE),
    (write_tokens_do_not_see_the_segment, laws.gradients_reach_earlier_segments, test_memory_tokens.EXAMPLE),
    (empty_latents_are_seen, autoencoder_reference, test_autoencoder.EXAMPLE),
    (the_loss_is_that_of_the_last_segment, autoencoder_reference, test_autoencoder.EXAMPLE),
    (slots_forget_at_once, slow_forgetting, test_ltm.EXAMPLE),
    (the_inner_step_goes_uphill, neural_reference, test_neural.EXAMPLE),
    (the_inner_step_is_not_differentiable, neural_reference, test_neural.EXAMPLE),
    (the_inner_step_is_as_long_as_it_likes, overflow, test_neural.EXAMPLE),
    (the_own_block_is_seen_to_its_end, ahead, test_retrieval.EXAMPLE),
    (a_query_reads_what_another_chose, whole, test_retrieval.EXAMPLE),
    (the_worst_blocks_are_read, retrieval_reference, test_retrieval.EXAMPLE),
    (retrieved_keys_are_detached, laws.gradients_reach_earlier_segments, test_retrieval.EXAMPLE),
    (the_newest_slots_are_dropped, compressed_reference, test_compressed.EXAMPLE),
    (what_leaves_is_pooled_for_every_row, padding, test_compressed.EXAMPLE),
]


@pytest.fixture(autouse=True)
def _counted_anew() -> Iterator[None]:
    """What was counted without a mistake must not stand in for what is counted with one, nor the other way round."""
    remembered = windows.update_window_once
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


@pytest.mark.parametrize(("mistake", "law", "example"), ELSEWHERE, ids=lambda value: getattr(value, "__name__", ""))
def test_a_mistake_elsewhere_breaks_its_law(
    mistake: Callable[[Patch], None],
    law: Callable[[laws.Example], None],
    example: laws.Example,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    law(example)
    mistake(monkeypatch.setattr)
    with pytest.raises(AssertionError):
        law(example)
