"""The memory of a user is a state: carried on from event to event, it is that of the whole history."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan.apps.recommend.steps import Shares, Step, UserState, memory_after, merged
from memspan.apps.recommend.tables import EventRow

DECAYS, ITEMS = (0.5, 0.85), 4
SHARES = {**{f"i{number}": Shares([number], [1.0]) for number in range(ITEMS)}, "new": Shares([0, 2], [0.25, 0.75])}


def step(item: str, weight: float = 1.0) -> Step:
    return Step(EventRow("u", item, 0.0), weight)


STEPS = st.lists(
    st.builds(step, st.sampled_from([*SHARES, "unknown"]), st.sampled_from([0.0, 0.8, 1.0, 3.0])), max_size=12
)


def test_events_with_the_same_item_in_a_row_are_taken_together() -> None:
    steps = [step("i0"), step("i0", 3.0), step("i1"), step("i0"), step("i0", 0.5)]
    assert [(found.item, found.weight) for found in merged(steps)] == [("i0", 3.0), ("i1", 1.0), ("i0", 1.0)]


def test_the_memory_decays_with_each_step_and_a_new_item_is_what_is_like_it() -> None:
    memory = memory_after([[step("i1", 2.0), step("new"), step("unknown"), step("i1")]], SHARES, DECAYS, ITEMS)[0]
    for row, decay in zip(memory, DECAYS, strict=True):
        expected = [0.25 * decay**2, 2 * decay**3 + 1, 0.75 * decay**2, 0.0]
        torch.testing.assert_close(row, torch.tensor(expected))


@settings(max_examples=40)
@given(STEPS, st.integers(0, 12))
def test_a_history_in_parts_leaves_the_memory_of_the_whole(steps: list[Step], cut: int) -> None:
    whole = memory_after([merged(steps)], SHARES, DECAYS, ITEMS)[0]
    state = UserState()
    for part in (steps[:cut], steps[cut:]):
        state = state.after(part, SHARES, DECAYS, ITEMS)
    torch.testing.assert_close(state.dense(DECAYS, ITEMS), whole, rtol=1e-4, atol=1e-6)
