"""Looking inside, as users do it: the numbers shown are those that the equations give."""

import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from memspan.data.tokenizer import Tokenizer
from memspan.explain import METHODS, trace
from memspan.explain.methods import Reading
from memspan.mechanisms import MECHANISMS, Gate, Internals, Mechanism, TraceInput
from memspan.mechanisms.base import SHARE
from memspan.models.classifier import Classifier, ClassifierConfig
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.commands import Run


@pytest.fixture
def run(run: Run) -> Run:
    """Run `memspan trace` in this process."""
    return partial(run, "trace")


def traces(run: Run, *arguments: str) -> list[dict[str, Any]]:
    code, out, err = run(*arguments, "--json")
    assert (code, err) == (0, "")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(out, parse_constant=refuse)["traces"]


def refused(run: Run, *arguments: str) -> str:
    """The one sentence in which a request is refused."""
    outcome = run(*arguments)
    assert outcome.code == 2
    return outcome.sentence


def sigmoid(number: float) -> float:
    return 1 / (1 + math.exp(-number))


# ---- a mechanism by itself


def test_the_lstm_of_the_example_by_hand(run: Run) -> None:
    """Gates, cell and hidden state at each step of 1, 0, 1, 0, 1, from the weights that are shown beside them."""
    (trace,) = traces(run, "lstm", "--input", "1,0,1,0,1", "--hidden", "2", "--seed", "3")
    w, u, b, b_hidden = (
        trace["parameters"][f"network.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h, c = [0.0, 0.0], [0.0, 0.0]
    assert [step["input"] for step in trace["steps"]] == [1, 0, 1, 0, 1]
    for step in trace["steps"]:
        # 4 gates of 2 units, in torch's order: i, f, g, o
        sums = [
            w[row][0] * step["input"] + u[row][0] * h[0] + u[row][1] * h[1] + b[row] + b_hidden[row] for row in range(8)
        ]
        i, f = [sigmoid(one) for one in sums[0:2]], [sigmoid(one) for one in sums[2:4]]
        g, o = [math.tanh(one) for one in sums[4:6]], [sigmoid(one) for one in sums[6:8]]
        c = [f[unit] * c[unit] + i[unit] * g[unit] for unit in range(2)]
        h = [o[unit] * math.tanh(c[unit]) for unit in range(2)]
        for name, expected in zip("ifgoch", (i, f, g, o, c, h), strict=True):
            assert step[name] == [pytest.approx(expected, abs=1e-6)], name  # of the one layer
    assert trace["state_bytes"] == 4 * 4


def test_the_transformer_of_the_example_by_hand(run: Run) -> None:
    """Scores, weights and outputs; positions are left out, so that a score is q . k and nothing else."""
    (trace,) = traces(run, "transformer", "--mechanism-settings", "positions=none")
    weights = {name: torch.tensor(value) for name, value in trace["parameters"].items()}
    x = torch.tensor([1.0, 0, 1, 0, 1])[:, None] * weights["embedding.weight"].T + weights["embedding.bias"]
    q, k, v = (x @ weights["project.weight"].T).split(2, 1)
    for place, step in enumerate(trace["steps"]):
        scores = (k[: place + 1] @ q[place]) / math.sqrt(2)
        alpha = scores.softmax(0)
        unseen = 4 - place
        assert step["scores"][0] == [*[pytest.approx(one, abs=1e-6) for one in scores.tolist()], *[None] * unseen]
        assert step["weights"][0] == pytest.approx([*alpha.tolist(), *[0.0] * unseen], abs=1e-6)
        assert step["y"] == pytest.approx((weights["out.weight"] @ (alpha @ v[: place + 1])).tolist(), abs=1e-6)


def test_the_transformer_is_attention_by_another_name(run: Run) -> None:
    assert traces(run, "transformer")[0]["steps"] == traces(run, "attention")[0]["steps"]


def test_a_seed_makes_it_repeatable(run: Run) -> None:
    assert traces(run, "lstm", "--seed", "1") == traces(run, "lstm", "--seed", "1")
    assert traces(run, "lstm", "--seed", "1") != traces(run, "lstm", "--seed", "2")


def test_the_table_has_a_row_for_each_step(run: Run) -> None:
    code, out, _ = run("lstm", "--input", "1,0.5,-2")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].split() == ["step", "input", "i", "f", "g", "o", "c", "h", "y"]
    assert [line.split()[:2] for line in lines[2:5]] == [["1", "1"], ["2", "0.5"], ["3", "-2"]]
    (trace,) = traces(run, "lstm", "--input", "1,0.5,-2")
    assert " ".join(f"{number:.3f}" for number in trace["steps"][2]["c"][0]) in lines[4]
    assert lines[5] == "carried on: 16 bytes"


def test_many_numbers_are_summarised(run: Run) -> None:
    _, out, _ = run("lstm", "--hidden", "20", "--input", "1,2")
    (trace,) = traces(run, "lstm", "--hidden", "20", "--input", "1,2")
    cell = trace["steps"][1]["c"][0]
    assert len(cell) == 20
    assert f"{sum(cell) / 20:.3f} [{min(cell):.3f}, {max(cell):.3f}]" in out


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_every_mechanism_can_be_looked_into(run: Run, name: str) -> None:
    (trace,) = traces(run, name)
    assert len(trace["steps"]) == 5
    assert all("y" in step for step in trace["steps"])
    assert trace["parameters"]


@pytest.mark.parametrize(("file", "begins"), [("lstm.png", b"\x89PNG"), ("lstm.SVG", b"<?xml")])
def test_a_picture(run: Run, tmp_path: Path, file: str, begins: bytes) -> None:
    code, _, err = run("lstm", "--plot", file)
    assert (code, err) == (0, "")
    content = (tmp_path / file).read_bytes()
    assert content.startswith(begins)
    assert len(content) > 10_000


@pytest.mark.parametrize(
    "arguments", [["transformer"], ["hierarchical", "--mechanism-settings", "segment=2"]], ids=lambda a: a[0]
)
def test_a_picture_of_what_has_more_dimensions_or_fewer(run: Run, tmp_path: Path, arguments: list[str]) -> None:
    assert run(*arguments, "--input", "1,0,1,0,1,0", "--plot", "seen.svg")[0] == 0
    assert (tmp_path / "seen.svg").stat().st_size > 10_000


def test_a_picture_has_three_panels_in_a_row_and_gates_on_one_scale() -> None:
    traces = [trace.trace_mechanism("lstm"), trace.trace_mechanism("attention", hidden=4)]
    figure = trace.draw(traces)
    assert figure.get_figwidth() < 9  # inches, of a page
    lstm, attention = figure.subfigs
    panels = [axes for axes in lstm.axes if axes.axison]
    assert [axes.get_title(loc="left").split(":")[0] for axes in panels] == [*"ifgoch", "y"]
    assert len({round(axes.get_subplotspec().colspan.start) for axes in panels}) == 3
    for axes, (name, gate) in zip(panels, traces[0].gates.items(), strict=True):
        title = " ".join(axes.get_title(loc="left").split())
        assert title == f"{name}: {gate.meaning}"
        assert axes.get_xlabel() == "step"
        assert axes.get_ylabel() == ("share" if name in "ifo" else "value")
        low, high = axes.get_ylim()
        if name in "ifo":
            assert -0.05 < low < 0 < 1 < high < 1.05
    assert [text.get_text() for text in lstm.legends[0].get_texts()] == ["unit 1", "unit 2"]
    weights = next(axes for axes in attention.axes if axes.get_title(loc="left").startswith("weights"))
    assert weights.images[0].get_clim() == (0, 1)


# ---- a mechanism of somebody's own


class Leaky(Mechanism):
    """A running mean with a gate (none)."""

    trace_input = TraceInput(hidden="size")

    def __init__(self, width: int, size: int = 3) -> None:
        super().__init__()
        self.into, self.out = torch.nn.Linear(width, 2 * size), torch.nn.Linear(size, width)

    def forward(self, x: torch.Tensor, state: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        y, state, _ = self.forward_with_internals(x, state)
        return y, state

    def forward_with_internals(self, x: torch.Tensor, state: torch.Tensor | None = None) -> Any:
        value, leak = self.into(x).chunk(2, 2)
        leak = leak.sigmoid()
        level, levels = torch.zeros_like(value[:, 0]) if state is None else state, []
        for index in range(x.shape[1]):
            level = leak[:, index] * level + value[:, index]
            levels.append(level)
        gates = {
            "leak": Gate(leak, "share of the level that is kept", "B S H", SHARE),
            "level": Gate(torch.stack(levels, 1), "level", "B S H"),
        }
        return self.out(torch.stack(levels, 1)), level, Internals(gates)


def test_a_new_mechanism_is_traced_and_explained_without_another_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MECHANISMS, "leaky", Leaky)
    traced = trace.trace_mechanism("leaky", hidden=4)
    assert traced.gates["leak"].value.shape == (5, 4)
    assert traced.parameters["into.weight"].shape == (
        8,
        1,
    )  # it has a hidden size of its own, and reads numbers as they are
    assert traced.to_dict()["meanings"]["leak"] == "share of the level that is kept"

    model = ScratchModel(ScratchConfig(50, width=8, layers=[[{"name": "leaky"}]])).eval()
    ids = torch.arange(12)[None]
    found = METHODS["gates"](Reading(model, ids, ids * 0, 0, 11, [3], 4, 4))
    assert [view.title.split(": ")[1] for view in found.views] == ["leak"]  # the level is not between 0 and 1
    assert found.views[0].about == "share of the level that is kept; mean of its units"
    assert found.views[0].values.shape == (12,)
    (_, mechanism, x), *_ = trace.calls(model, ids)
    leak = mechanism.forward_with_internals(x)[2].gates["leak"].value
    torch.testing.assert_close(found.views[0].values, leak[0].mean(1))


# ---- a trained model

TEXT = "Zoe, né à Ur"


def save(folder: Path, vocabulary: int = 256) -> Path:
    torch.manual_seed(0)
    layers = [[{"name": "lstm", "hidden": 3, "dropout": 0.5}, {"name": "attention", "heads": 2}], [{"name": "delta"}]]
    ScratchModel(ScratchConfig(vocabulary, width=8, layers=layers, dropout=0.5)).save_pretrained(folder)
    return folder


def test_a_trained_model_and_a_sentence(run: Run, tmp_path: Path) -> None:
    """Every mechanism, in its order, with what it has to show; the feed-forward layers between remember nothing."""
    save(tmp_path / "model")
    one, two, three = traces(run, "--model", "model", "--text", TEXT)
    assert [trace["title"].split()[:2] for trace in (one, two, three)] == [
        ["1.", "LSTM"],
        ["2.", "Attention"],
        ["4.", "Delta"],
    ]
    shown = [step["input"] for step in one["steps"]]
    assert len(shown) == len(TEXT.encode())
    assert shown[:4] == ["Z", "o", "e", ","]
    assert shown[4:8] == ["20", "n", "c3", "a9"]  # what cannot be shown is written in hexadecimal
    assert set(one["steps"][0]) == {"input", *"ifgochy"}
    assert [len(row) for row in two["steps"][0]["weights"]] == [len(shown)] * 2  # of each head
    assert "parameters" not in one


def test_what_is_shown_is_what_the_model_computes(run: Run, tmp_path: Path) -> None:
    model = ScratchModel.from_pretrained(save(tmp_path / "model")).eval()
    ids = [5, 250, 5, 7]
    with torch.no_grad():
        _, state = model(torch.tensor([ids]))
    first, *_ = traces(run, "--model", "model", "--input", ",".join(map(str, ids)))
    for name in "hc":
        assert first["steps"][-1][name][0] == pytest.approx(state[0][name][0, 0].tolist(), abs=1e-6)
    assert [step["input"] for step in first["steps"]] == ids


def test_a_trained_model_is_shown_in_the_tokens_that_it_learned(run: Run) -> None:
    train(
        TrainConfig.of(task="classification", mechanism="delta", width=16, depth=1, steps=2, device="cpu", output="run")
    )
    first, *_ = traces(run, "--model", "run/last", "--text", "We cannot come")
    shown = [step["input"] for step in first["steps"]]
    assert "".join(shown) == " We cannot come"
    assert 3 <= len(shown) < len("We cannot come")  # subwords, not bytes
    ids = Tokenizer.open("run/last").encode("We cannot come")
    by_ids, *_ = traces(run, "--model", "run/last", "--input", ",".join(map(str, ids)))
    for step, other in zip(first["steps"], by_ids["steps"], strict=True):
        assert {**step, "input": None} == {**other, "input": None}


def test_a_damaged_tokenizer_is_refused(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "model", vocabulary=4)
    (tmp_path / "model" / "tokenizer.json").write_text('{"pad": 0', "utf-8")
    assert "must be a tokenizer that memspan saved" in refused(run, "--model", "model", "--text", "the sea")


def test_an_encoder_that_sees_later_tokens(run: Run, tmp_path: Path) -> None:
    layers = [[{"name": "hierarchical", "segment": 4}], [{"name": "bidirectional", "segment": 4, "heads": 2}]]
    Classifier(ClassifierConfig(256, classes=2, width=8, layers=layers)).save_pretrained(tmp_path / "model")
    first, second = traces(run, "--model", "model", "--text", TEXT)
    assert sum(step["words"] for step in first["steps"][:4]) == pytest.approx(1)
    assert {"forward", "backward"} < set(second["steps"][0])


def test_a_picture_of_a_model(run: Run, tmp_path: Path) -> None:
    save(tmp_path / "model")
    code, out, _ = run("--model", "model", "--text", "a $ b", "--plot", "model.svg")
    assert code == 0
    assert [line for line in out.splitlines() if "LSTM" in line] == ["1. LSTM (backbone.layers.0.0.mechanism)"]
    assert (tmp_path / "model.svg").stat().st_size > 10_000


# ---- what cannot be


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "Name either a mechanism"),
        (["lstm", "--model", "model"], "Name either a mechanism"),
        (["lstmm"], "There is no mechanism 'lstmm'. Known: associative,"),
        (["lstm", "--text", "a"], "reads numbers"),
        (["lstm", "--input", "1,a"], "must be numbers like 1,0,1,0,1, got '1,a'"),
        (["lstm", "--input", "nan"], "give numbers like"),
        (["lstm", "--mechanism-settings", "gates=5"], "has no setting 'gates'"),
        (["lstm", "--mechanism-settings", "layers=0"], "layers must be at least 1"),
        (["attention", "--hidden", "3"], "must divide a width of 3"),
        (["lstm", "--plot", "lstm.txt"], "must end with .png or .svg"),
        (["lstm", "--plot", "nowhere/lstm.png"], "Writing the picture to nowhere/lstm.png failed"),
        (["--model", "nowhere", "--text", "a"], "There is no folder nowhere"),
        (["--model", "model"], "give one of them"),
        (["--model", "model", "--text", "a", "--input", "1"], "give one of them"),
        (["--model", "model", "--text", ""], "the text is empty"),
        (["--model", "model", "--input", "1,256"], "must be 0 to 255, the model's vocabulary, got 256"),
        (["--model", "model", "--input", "1,-1"], "got -1"),
        (["--model", "model", "--input", "1.5"], "must be whole numbers like 5,16,64"),
        (["--model", "model", "--text", "a", "--mechanism-settings", "layers=2"], "leave out --mechanism-settings"),
        (["--model", "words", "--text", "a"], "give token ids with --input"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_a_sentence(run: Run, tmp_path: Path, arguments: list[str], told: str) -> None:
    if {"model", "words"} & set(arguments):
        save(tmp_path / "model")
        save(tmp_path / "words", vocabulary=100)
    assert told in refused(run, *arguments)


def test_without_matplotlib_there_is_a_way_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'memspan[plots]'" in refused(run, "lstm", "--plot", "lstm.png")
