"""Changed texts: each change does what it says, in scripts with spaces and without."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from memspan.data.augment import Augment
from memspan.errors import UsageError
from memspan.training.build import build_task
from memspan.training.config import TrainConfig

TEXT = "The old dog sleeps, and the cat watches him."
CHINESE = "老狗在花园里睡觉。"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "synonyms.tsv"
    path.write_text("dog\thound\nsleeps\trests\n花园\t院子\n", "utf-8")
    return path


def changed(text: str, contexts: tuple[str, ...] = (), **settings: Any) -> str:
    return Augment(**settings)(text, random.Random(1), contexts)


def test_without_settings_nothing_changes() -> None:
    assert changed(TEXT) == TEXT
    assert changed(CHINESE) == CHINESE


def test_synonyms_come_from_the_table(table: Path) -> None:
    assert changed(TEXT, synonym=1.0, table=table) == "The old hound rests, and the cat watches him."
    assert changed(CHINESE, synonym=1.0, table=table) == "老狗在院子里睡觉。"


@pytest.mark.parametrize("text", [TEXT, CHINESE])
def test_edits(text: str) -> None:
    letters = sorted(text.replace(" ", ""))
    swapped = changed(text, swap=1.0)
    assert swapped != text
    assert sorted(swapped.replace(" ", "")) == letters
    shorter, longer = changed(text, delete=0.5), changed(text, insert=0.5)
    assert 0 < len(shorter) < len(text) < len(longer)
    assert set(longer) == set(text)
    assert changed(text, delete=1.0).strip(",.") in text  # one word stays
    assert changed(text, swap=0.5) == changed(text, swap=0.5)


def test_inserted_words_are_synonyms_where_they_are_known(table: Path) -> None:
    assert "hound" in changed("dog dog dog dog", insert=1.0, table=table)


def test_context_and_rewriting() -> None:
    both = {Augment(context=1.0)(TEXT, random.Random(seed), ("It rains.",)) for seed in range(9)}
    assert both == {f"{TEXT} It rains.", f"It rains. {TEXT}"}
    assert changed(TEXT, rewrite=1.0, rewriter=str.upper) == TEXT.upper()


def test_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    senses = [SimpleNamespace(lemma_names=lambda: ["car", "motor_car", "automobile"])]
    wordnet = SimpleNamespace(ensure_loaded=lambda: None, synsets=lambda word: senses if word == "automobile" else [])
    monkeypatch.setitem(sys.modules, "nltk.corpus", SimpleNamespace(wordnet=wordnet))  # type: ignore[misc]
    monkeypatch.setitem(sys.modules, "nltk", SimpleNamespace(corpus=wordnet))  # type: ignore[misc]
    assert changed("Automobile, dog", synonym=1.0, wordnet=True) in {"car, dog", "motor car, dog"}
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(UsageError, match=r"nltk\.downloader wordnet"):
        changed(TEXT, wordnet=True)


def test_wrong_requests(tmp_path: Path) -> None:
    (tmp_path / "bad.tsv").write_text("dog\thound\ncat\n", "utf-8")
    for settings, sentence in (
        ({"swap": 2.0}, "swap must be a fraction between 0 and 1, got 2.0"),
        ({"synonym": 0.1}, "name a `table`"),
        ({"rewrite": 0.1}, "without a `rewriter`"),
        ({"table": tmp_path / "none.tsv"}, "must be a UTF-8 text file"),
        ({"table": tmp_path / "bad.tsv"}, "Line 2 of .* got 'cat'"),
    ):
        with pytest.raises(UsageError, match=sentence):
            Augment(**settings)
    for augment, sentence in (
        ({"swop": 0.1}, "no 'swop'. Known: synonym"),
        ({"swap": "much"}, "must map names to shares"),
    ):
        with pytest.raises(UsageError, match=sentence):
            build_task(TrainConfig.of(task="classification", augment=augment))


def test_texts_to_train_on_are_changed_and_those_held_out_are_not() -> None:
    settings = {"limit": 40, "vocabulary": 300}
    plain = build_task(TrainConfig.of(task="classification", task_settings=settings))
    augmented = build_task(TrainConfig.of(task="classification", task_settings=settings, augment={"delete": 0.5}))

    def ids(task: Any) -> torch.Tensor:
        return task.batch(4, 2, torch.Generator().manual_seed(1)).ids

    assert ids(plain).shape != ids(augmented).shape or not torch.equal(ids(plain), ids(augmented))
    assert torch.equal(ids(plain.held_out()), ids(augmented.held_out()))
    assert torch.equal(ids(augmented), ids(augmented))  # the generator decides
