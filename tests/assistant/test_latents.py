"""Memories with latents of their passages, from which passages are read in condensed form without their text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from memspan import LanguageModel, Memory, Sampling, load_memory, load_model
from memspan.errors import ForeignMemory, UsageError
from memspan.pretrained.condenser import Condenser
from tests.assistant.conftest import HEADS
from tests.tiny import logbook, save_codec, save_trained_memory

QUESTION = "What did the wind do on the third day?"
SHORT = Sampling(max_new_tokens=6)


def trained_run(folder: Path, tiny_model: Path, text: str) -> Path:
    """A run with random weights and the codec of this text."""
    run = save_trained_memory(str(tiny_model), folder, rate=4, window=64, block=64, code=4, hidden=4)
    save_codec(tiny_model, run, text)
    return run


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_run(tmp_path_factory.mktemp("run"), tiny_model, logbook())


@pytest.fixture(scope="module")
def latent_lm(tiny_model: Path, run: Path) -> LanguageModel:
    """It makes latents."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    return LanguageModel(model, AutoTokenizer.from_pretrained(tiny_model), name="tiny", heads=HEADS, latents=run)


@pytest.fixture(scope="module")
def memory(latent_lm: LanguageModel) -> Memory:
    return latent_lm.read(logbook(), source="log.txt")


def latents_of(memory: Memory) -> list[list[list[int]] | None]:
    found = [memory.latents(number) for number in range(len(memory))]
    return [None if latents is None else latents.tolist() for latents in found]


def test_every_passage_has_them(latent_lm: LanguageModel, memory: Memory) -> None:
    """They are those of the passage alone, whatever was read with it."""
    assert memory.fingerprint.latents == latent_lm.fingerprint.latents
    for number in (0, 1, len(memory) - 1):
        latents = memory.latents(number)
        assert latents is not None
        assert latents.shape == (-(-memory.passage(number).tokens // 4), 16)
        (alone,) = latent_lm.condensers.default.latents([memory.ids(number).tolist()])
        assert np.mean(alone != latents) < 0.05  # sums in another order may round otherwise


def test_condensed_passages_are_not_read_anew(
    lm: LanguageModel, latent_lm: LanguageModel, memory: Memory, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has the weights can use them; the passages are those that would be read as text."""
    read: list[list[list[int]]] = []
    original = Condenser._read

    def recorded(condenser: Condenser, rows: Sequence[Sequence[int]], cache: object) -> None:
        read.append([list(row) for row in rows])
        original(condenser, rows, cache)

    monkeypatch.setattr(Condenser, "_read", recorded)
    opening = list(latent_lm.condensers.default.needed_codec().opening)
    own = latent_lm.ask(memory, QUESTION, passages=2, condensed=3, sampling=SHORT)
    assert read == [[opening]]
    named = lm.ask(memory, QUESTION, passages=2, condensed=3, memory_weights=run, sampling=SHORT)
    assert read == [[opening]] * 2
    plain = lm.read(logbook(), source="log.txt")
    text = lm.ask(plain, QUESTION, passages=2, condensed=3, memory_weights=run, sampling=SHORT)
    assert len(read) == 5
    assert own.condensed == named.condensed == text.condensed
    assert len(own.condensed) == 3
    assert own.text == named.text
    assert own.passages == text.passages


def test_passages_without_them_are_read_as_text(
    latent_lm: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a view in which several passages have become one text."""
    numbers: list[int] = []
    original = Memory.latents

    def missing(self: Memory, number: int) -> object:
        numbers.append(number)
        return None if len(numbers) == 2 else original(self, number)

    monkeypatch.setattr("memspan.memory.view.View.latents", missing)
    answer = latent_lm.ask(memory, QUESTION, passages=2, condensed=3, sampling=SHORT)
    assert numbers == [passage.number for passage in reversed(answer.condensed)]


def test_a_model_that_does_not_make_them_cannot_add_to_a_memory_with_them(
    lm: LanguageModel, latent_lm: LanguageModel, memory: Memory, tiny_model: Path, tmp_path: Path
) -> None:
    fork = memory.fork()
    with pytest.raises(
        ForeignMemory, match=r"latents by the trained memory '.*' \(\w{12}\), which cannot be had here: .*latents='/"
    ):
        lm.read("A new text.", fork, source="new")
    other = trained_run(tmp_path, tiny_model, logbook(seed=8))
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    elsewhere = LanguageModel(model, latent_lm.tokenizer, name="tiny", heads=HEADS, latents=other)
    with pytest.raises(ForeignMemory, match=r"latents by the trained memory '.*' \([0-9a-f]{12}\), but here it is '"):
        elsewhere.remember(fork, "A new text.", source="new")
    assert latents_of(fork) == latents_of(memory)
    latent_lm.remember(fork, "A new text.", source="new")
    assert latents_of(fork)[:-1] == latents_of(memory)
    assert latents_of(fork)[-1] is not None


def test_foreign_latents_are_not_read(
    latent_lm: LanguageModel, memory: Memory, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question with other weights reads the text."""
    monkeypatch.setattr("memspan.memory.view.View.latents", lambda *_: pytest.fail("foreign latents were read"))
    other = trained_run(tmp_path, tiny_model, logbook(seed=8))
    answer = latent_lm.ask(memory, QUESTION, passages=2, condensed=2, memory_weights=other, sampling=SHORT)
    assert len(answer.condensed) == 2


def test_a_memory_has_them_from_its_beginning_or_not_at_all(
    lm: LanguageModel, latent_lm: LanguageModel, tmp_path: Path
) -> None:
    lm.read("An old text.", lm.new_memory(tmp_path / "old"), source="a")
    with pytest.raises(UsageError, match="must have latents from its beginning on"):
        latent_lm.new_memory(tmp_path / "old")
    latent_lm.read("A new text.", latent_lm.new_memory(tmp_path / "new"), source="a")
    again = latent_lm.new_memory(tmp_path / "new")
    latent_lm.read("A new text. And more.", again, source="a", update=True)
    assert [latents is None for latents in latents_of(load_memory(tmp_path / "new"))] == [False] * len(again)


def test_what_did_not_change_keeps_them(latent_lm: LanguageModel, memory: Memory) -> None:
    changed = memory.fork()
    latent_lm.read(logbook()[:-200] + "The end.", changed, source="log.txt", update=True)
    same = len(memory) - 4
    assert latents_of(changed)[:same] == latents_of(memory)[:same]
    assert None not in latents_of(changed)


def test_a_model_without_a_trained_memory(tiny_model: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny_model), AutoTokenizer.from_pretrained(tiny_model)
    with pytest.raises(UsageError, match="has no trained memory"):
        load_model(model.eval(), tokenizer=tokenizer, encoder=None, latents=True)
    with pytest.raises(UsageError, match="`latents` must be a string or a path"):
        load_model(model.eval(), tokenizer=tokenizer, encoder=None, latents=3)  # type: ignore[arg-type]
