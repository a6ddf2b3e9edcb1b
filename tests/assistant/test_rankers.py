"""Rankers of other packages: an installed one takes part in every search, and a wrong one is refused in a sentence."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import memspan
from memspan import LanguageModel
from memspan.errors import UsageError
from tests.packages import install_package

CODE = """
import numpy as np
from memspan import Encoders, View


class Ranker:
    def __init__(self, encoders: Encoders) -> None:
        self.keys = encoders.keys

    def scores(self, view: View, question: str):
        assert len(self.keys.question(question).queries) > 0
        return {scores}
"""
LONGEST = "[1000.0 * (view.passage(number).text.startswith('Nobody')) for number in range(len(view))]"
NOTES = [f"The lamp of harbour {number} is lit at dusk." for number in range(7)]

Install = Callable[..., LanguageModel]


@pytest.fixture
def install(lm: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package that registers a ranker with these scores; returns the tiny model as loaded afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(package: str, scores: str, value: str = "Ranker") -> LanguageModel:
        monkeypatch.delitem(sys.modules, package, raising=False)
        install_package(
            tmp_path, package, CODE.replace("{scores}", scores), "memspan.rankers", mine=f"{package}:{value}"
        )
        return LanguageModel(lm.causal_lm, lm.tokenizer, name="tiny", heads=lm.heads)

    return install


def memory_of(lm: LanguageModel) -> memspan.Memory:
    memory = lm.new_memory()
    for number, text in enumerate([*NOTES, "Nobody knows the depth of the well."]):
        lm.remember(memory, text, source=f"note/{number}")
    return memory


def test_an_installed_ranker_takes_part_in_every_search(lm: LanguageModel, install: Install) -> None:
    question, memory = "When is the lamp of harbour 3 lit?", memory_of(lm)
    (before,) = lm.search(memory, question, top=1, rerank=0)
    assert before.source != "note/7"
    with_plugin = install("first_ranker", LONGEST)
    assert list(memspan.ranker_classes()) == ["heads", "words", "meaning", "mine"]
    assert with_plugin.fingerprint == lm.fingerprint
    (best,) = with_plugin.search(memory, question, top=1, rerank=0)
    assert best.source == "note/7"
    parts = with_plugin.retriever.rankings(memory, question)
    assert best.score == pytest.approx(sum(float(part[7]) for part in parts.values()), abs=1e-4)


def test_a_ranker_that_abstains_changes_nothing(lm: LanguageModel, install: Install) -> None:
    question, memory = "When is the lamp lit?", memory_of(lm)
    assert install("silent_ranker", "None").search(memory, question) == lm.search(memory, question)


@pytest.mark.parametrize(
    ("scores", "found"),
    [("np.ones(3)", r"got \(3,\)"), ("np.full(len(view), np.nan)", "got NaN or infinity among them")],
)
def test_scores_that_are_not_a_number_for_each_passage_are_refused(install: Install, scores: str, found: str) -> None:
    lm = install("wrong_ranker", scores)
    with pytest.raises(UsageError, match=rf"ranker 'mine' must be finite numbers of shape \(8,\).*{found}"):
        lm.search(memory_of(lm), "When is the lamp lit?")


@pytest.mark.parametrize(("value", "kind"), [("np.shape", "tuple"), ("np.pi", "float")])
def test_a_plugin_that_makes_no_ranker_is_refused(install: Install, value: str, kind: str) -> None:
    with pytest.raises(UsageError, match=f"'mine' of memspan.rankers must be a class like memspan.Ranker.*got {kind}"):
        install("other_ranker", "None", value=value)
