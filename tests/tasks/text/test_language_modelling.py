"""Language modelling: lanes through one long text, every byte once, and the end held out."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError
from memspan.pretrained import hub
from memspan.tasks.samples import word_lists
from memspan.tasks.text.language_modelling import YEARS, LanguageModelling
from memspan.training.measure import measure

CONTENT = bytes(place * 31 % 256 for place in range(1000))


@pytest.fixture
def task(tmp_path: Path) -> LanguageModelling:
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    paths[0].write_bytes(CONTENT[:400])
    paths[1].write_bytes(CONTENT[400:])
    return LanguageModelling([str(path) for path in paths], segment=10, valid=0.2)


def test_lanes_go_on_where_they_ended(task: LanguageModelling) -> None:
    place, lanes, asked, marks, generator = 0, [b"", b""], [b"", b""], [], torch.Generator()
    for _ in range(13):
        batch, place = task.next_batch(place, 2, 3, generator)
        marks.append(batch.fresh)
        for row in range(2):
            lanes[row] += bytes(batch.ids[row].tolist())
            asked[row] += bytes(batch.targets[row].tolist())
    assert marks == [True] + 12 * [False]  # 13 batches of 30 bytes in 399
    assert lanes[0] == CONTENT[:390]
    assert lanes[1] == CONTENT[399:789]
    assert asked[0] == CONTENT[1:391]
    batch, _ = task.next_batch(place, 2, 3, generator)
    assert batch.fresh
    assert bytes(batch.ids[0].tolist()) == CONTENT[:30]


def test_a_lane_is_read_to_its_last_token(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(CONTENT[:101])
    task = LanguageModelling(str(tmp_path / "text"), segment=10, valid=0.2)  # 81 bytes: two lanes of four segments
    position, marks = 0, []
    for _ in range(5):
        batch, position = task.next_batch(position, 2, 1, torch.Generator())
        marks.append(batch.fresh)
    assert marks == [True, False, False, False, True]


def test_excerpts(task: LanguageModelling) -> None:
    batch = task.batch(20, 2, torch.Generator().manual_seed(0))
    starts = {CONTENT.index(bytes(row.tolist())) for row in batch.ids}
    assert len(starts) > 10
    assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])


def test_tokens_of_a_pretrained_model(tiny_model: Path) -> None:
    """The same text in fewer tokens, whose bits are still counted per byte."""
    made, bytes_ = (LanguageModelling(segment=8, tokenizer=one) for one in (str(tiny_model), None))
    assert made.vocabulary == 2000
    assert len(made.text) < 0.7 * len(bytes_.text)
    rest = made.held_out()
    assert len(rest.text) * made.bytes_per_token == pytest.approx(len(bytes_.held_out().text))
    learned = Tokenizer.of_pretrained(hub.tokenizer_of(str(tiny_model)))
    assert learned.inner.decode(rest.text.tolist()) == bytes(bytes_.held_out().text.tolist()).decode()
    assert made.baselines() == bytes_.baselines()

    class Even(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(()))

        def forward(self, ids: torch.Tensor, state: None, keep: int) -> tuple[torch.Tensor, None]:
            return torch.zeros(len(ids), keep, 2000), None

    score = measure(Even(), made, 2, batch_size=2)
    assert score.loss == pytest.approx(math.log(2000))
    assert score.bits == pytest.approx(math.log2(2000) / made.bytes_per_token)


def test_the_end_is_held_out(task: LanguageModelling) -> None:
    held_out = task.held_out()
    assert bytes(task.text.tolist()) == CONTENT[:800]
    assert bytes(held_out.text.tolist()) == CONTENT[800:]
    assert bytes(held_out.next_batch(0, 1, 2, torch.Generator())[0].ids[0].tolist()) == CONTENT[800:820]


def test_what_cannot_be_read(task: LanguageModelling, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.txt cannot be read: No such file"):
        LanguageModelling(str(tmp_path / "none.txt"))
    (tmp_path / "empty.txt").touch()
    with pytest.raises(UsageError, match="is empty"):
        LanguageModelling(str(tmp_path / "empty.txt"))
    with pytest.raises(UsageError, match=r"too short: 9 rows of 9 segments.* needs more than 810 tokens"):
        task.next_batch(0, 9, 9, torch.Generator())
    with pytest.raises(UsageError, match="too short"):
        task.batch(1, 80, torch.Generator())


def test_the_sample_brings_back_late_what_came_early() -> None:
    """Every year names a person, a trade, a home and a thing, and most of them again when a window of 64 has left them."""
    told = LanguageModelling.sample(200)
    assert told == LanguageModelling.sample(300)[: len(told)]
    years = told.splitlines()
    assert len(years) == 200
    late = 0
    for number, year in enumerate(years):
        begun = re.match(rf"In {1000 + number} there came (\w+), a (\w+) from ([\w ]+), with ([\w ]+)\. ", year)
        assert begun is not None
        late += sum(year.rfind(fact) > begun.end() + 64 for fact in begun.groups())
        others = {one for one in word_lists("language_modelling")["names"] if one in year} - {begun[1]}
        assert not others
    assert late > 3.5 * 200
    made = LanguageModelling(segment=32)
    assert bytes(torch.cat([made.text, made.held_out().text]).tolist()).decode() == LanguageModelling.sample(YEARS)


def test_compressors_know_the_text_trained_on(tmp_path: Path) -> None:
    """Noise takes eight bits a byte, unless it stood there before."""
    noise = np.random.default_rng(0).bytes(8000)
    path = tmp_path / "noise"
    path.write_bytes(noise)
    fresh = LanguageModelling(str(path), segment=10, valid=0.5).baselines()
    assert set(fresh) == {"lzma after the text trained on", "bz2 after the text trained on"}
    assert all(7.5 < value < 9 for value in fresh.values())
    path.write_bytes(noise[:4000] * 2)
    assert LanguageModelling(str(path), segment=10, valid=0.5).baselines()["lzma after the text trained on"] < 0.5
