"""Streams that need the text before them, and what a memory is worth: nothing, everything, or what it was trained to be."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.mechanisms import window_only
from memspan.pretrained.adapt import adapt
from memspan.state import State
from memspan.tasks import IGNORE_INDEX
from memspan.tasks.samples import word_lists
from memspan.tasks.text.memory import TextMemory
from memspan.training.config import TrainConfig
from memspan.training.loop import train

SEGMENT = 96


@pytest.fixture(scope="module")
def task() -> TextMemory:
    return TextMemory(segment=SEGMENT, facts=1)


def words(ids: list[int]) -> str:
    return bytes(ids).decode()


def test_what_is_asked_for_stands_in_the_text(task: TextMemory) -> None:
    """Every target of a question follows from its text; the repeated segment is one of the text, and then what follows."""
    segments = 4
    batch = task.batch(16, segments, torch.Generator().manual_seed(0))
    assert batch.ids.shape == (16, segments * SEGMENT)
    asked = 0
    for row, (ids, targets) in enumerate(zip(batch.ids.tolist(), batch.targets.tolist(), strict=True)):
        text, reading = ids[:-SEGMENT], ids[-SEGMENT:]
        assert set(targets[:-SEGMENT]) == {IGNORE_INDEX}
        wanted = targets[-SEGMENT:]
        for token, target in zip(reading[1:], wanted[:-1], strict=True):
            assert target in (token, IGNORE_INDEX)
        if row % 4 == 0:
            assert IGNORE_INDEX not in wanted[:-1]
            assert words(reading) in words(text)
            continue
        if row % 2:  # without what follows: the targets are answers alone
            answers = words([0 if target == IGNORE_INDEX else target for target in wanted]).split("\0")
            for answer in filter(None, answers):
                assert answer in words(text)
                asked += 1
    assert asked > 4


def test_nothing_that_is_measured_on_occurs_in_training(task: TextMemory) -> None:
    lists = word_lists("memory")
    generator = torch.Generator().manual_seed(0)
    trained = words(task.batch(40, 3, generator).ids.flatten().tolist())
    measured = words(task.held_out().batch(40, 3, generator).ids.flatten().tolist())
    used, held_out = ({name for name in lists["family"] if f" {name}" in text} for text in (trained, measured))
    assert used
    assert held_out
    assert not used & held_out


def run(base: str, **changes: object) -> TrainConfig:
    options: dict[str, object] = {
        "task": "memory",
        "task_settings": {"segment": SEGMENT, "facts": 1},
        "model": base,
        "mechanism": "gist",
        "mechanism_settings": {"slots": 16},
        "segments": 2,
        "bptt_segments": 1,
        "batch_size": 4,
        "steps": 2,
    }
    return TrainConfig.of(**{**options, **changes})


def test_a_memory_of_nothing_and_one_of_everything(bases: dict[str, str]) -> None:
    """What the measurement is held to: a window that keeps nothing closes nothing, one that keeps all closes all."""
    task = TextMemory(segment=SEGMENT, facts=1, tokenizer=bases["causal"])
    forgets = adapt(bases["causal"], 400, mechanism="sink_window", settings=settings_without_name(SEGMENT))
    keeps = adapt(bases["causal"], 400, mechanism="sink_window", settings={"window": 252, "block": 1})
    for model, memory in ((forgets, "nothing"), (keeps, "full")):
        metrics = task.score(model, 2, limit=3, batch_size=2)
        for reading in ("text", "following", "facts"):
            assert metrics[f"{reading} own"] == pytest.approx(metrics[f"{reading} {memory}"], rel=2e-3)
    assert metrics["facts own"] != pytest.approx(metrics["facts nothing"], rel=1e-6)
    assert metrics["facts other"] != pytest.approx(metrics["facts own"], rel=1e-6)


class Foresees(nn.Module):
    """Predicts every token once it has read anything before; in odd rows nothing if `but_odd`."""

    def __init__(self, but_odd: bool = False) -> None:
        super().__init__()
        self.but_odd, self.weight = but_odd, nn.Parameter(torch.zeros(1))

    def forward(self, ids: Tensor, state: State, keep: int) -> tuple[Tensor, State]:
        logits = torch.zeros(*ids.shape, 256)
        if state is not None:
            logits = logits.scatter(2, ids.roll(-1, 1)[:, :, None], 9.0)
            if self.but_odd:
                logits[1::2] = 0.0
        return logits, torch.zeros(len(ids), 1)

    def without_limit(self) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.parametrize(("but_odd", "share"), [(False, 1.0), (True, 0.5)])
def test_a_fact_is_right_if_every_token_of_its_value_is_the_likeliest(
    task: TextMemory, but_odd: bool, share: float
) -> None:
    metrics = task.score(Foresees(but_odd), 2, limit=8, batch_size=4)
    assert {name: metrics[f"facts right {name}"] for name in ("nothing", "own", "other", "full")} == {
        "nothing": 0.0,
        "own": share,
        "other": share,
        "full": share,
    }


def settings_without_name(window: int) -> dict[str, object]:
    return {name: value for name, value in window_only(window).items() if name != "name"}


@pytest.mark.parametrize(
    ("mechanism", "settings", "changed"),
    [
        ("gist", {"slots": 16}, "pool.down.weight"),
        ("associative", {"window": SEGMENT, "block": SEGMENT}, "memory.out"),
    ],
)
def test_a_working_memory_with_weights_is_trained(
    bases: dict[str, str], tmp_path: Path, mechanism: str, settings: dict[str, int], changed: str
) -> None:
    """The base stays as it is; what training changes of the memory is in the folder."""
    how = {"mechanism": mechanism, "mechanism_settings": settings}
    report = train(run(bases["causal"], output=str(tmp_path / "run"), **how))
    weights = load_file(tmp_path / "run" / "last" / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == {"mechanisms"}
    assert weights.keys() == report.model.learned().keys()
    for layer in (0, 1):
        assert weights[f"mechanisms.{layer}.{changed}"].abs().max() > 0  # zero before training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "scratch", "mechanism": None, "mechanism_settings": {}}, "needs a pretrained model"),
        ({"segments": 1}, "must have at least 2 segments"),
        ({"task_settings": {"segment": 20}}, "segment must be more than 64"),
    ],
)
def test_what_cannot_be(bases: dict[str, str], options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        train(run(bases["causal"], **options))


def test_an_encoder_is_refused(bases: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="choose a causal model"):
        train(run(bases["encoder"], mechanism=None, mechanism_settings={}))


def test_examples_for_a_codec_of_latents(task: TextMemory) -> None:
    """Half of the text, and questions for its facts of which only the values are wanted."""
    for number, example in enumerate(task.examples(2, torch.Generator().manual_seed(0), facts=1)):
        (part, next_tokens), (questions, values) = example.readings
        assert len(example.text) == SEGMENT
        assert part == (example.text[SEGMENT // 2 :] if number else example.text[: SEGMENT // 2])
        assert next_tokens == [*part[1:], IGNORE_INDEX]
        assert len(questions) == len(values)
        assert [values[index] == questions[index + 1] for index in range(len(values) - 1) if values[index] >= 0].count(
            False
        ) == 0
        assert IGNORE_INDEX in values
        assert max(values) > 0
