"""Draws of a comparison that were run one after the other are one comparison with as many seeds."""

from typing import Any

from benchmarks.tasks_pretrained import error, joined
from memspan.evaluation.ablation import Comparison, Contender


def drawn(draw: int, memory: float, window: float, baseline: float) -> dict[str, Any]:
    contenders = [
        Contender(name, [{"F1": value, "standard error": 0.3}], value, 0.0, 5, 7, [1.0 + draw])
        for name, value in (("memory", memory), ("no memory", window))
    ]
    run = Comparison("question_answering", "F1", False, contenders, {"nearest sentence": baseline})
    return {"command": f"memspan compare --seed {draw}", "draw": draw, "seconds": 9.0, **run.to_dict()}


def test_several_draws_are_one_comparison() -> None:
    found = joined([drawn(0, 0.6, 0.1, 0.2), drawn(1, 0.4, 0.3, 0.4)])
    memory, window = found["contenders"]
    assert (memory["mean"], round(memory["spread"], 6), memory["seconds"]) == (0.5, 0.2, [1.0, 2.0])
    assert (window["mean"], round(window["spread"], 6)) == (0.2, 0.2)
    assert round(error(memory["figures"]), 6) == round(0.3 / 2**0.5, 6)
    assert (round(found["gain"], 6), found["clear"]) == (0.3, True)
    assert (round(found["baselines"]["nearest sentence"], 6), found["draws"]) == (0.3, [0, 1])
    assert not joined([drawn(0, 0.9, 0.1, 0.2), drawn(1, 0.2, 0.3, 0.4)])["clear"]  # less than the spread
    single = drawn(2, 0.6, 0.1, 0.2)
    assert {**joined([single]), "draws": None} == {**single, "draws": None}
