"""Benchmarks measure the product: they call its commands and its public names, and hold no modelling of their own."""

import ast
import re
from pathlib import Path

import pytest
from torch import Tensor

from benchmarks import delta_reference
from benchmarks.bad_clients import is_error, is_whole
from benchmarks.faults import latencies, memory_of, unexpected
from benchmarks.ledger import Ledger, Request, compare_turns
from benchmarks.served_memory import growth
from memspan.mechanisms.layers.delta_rule import gated_delta_rule

FOLDER = Path(__file__).parents[1] / "benchmarks"
FILES = sorted(FOLDER.rglob("*.py"))
MODULES = ("sklearn", "torch.nn", "scipy.optimize")
WORDS = re.compile(r"\b(hidden_states?|last_hidden_state|output_hidden_states|nn\.\w+)\b")

# What else there is, and why.
EXEMPT = {
    "abstention.py": "the area under the curve, and the curve that the weights of confidence in the product were fitted to",
    "autoencode.py": "the loss of a training loop over layers of the product, which have no command",
    "babi.py": "the training loop of a task that no command trains",
    "gpu.py": "torch's LSTM, by whose speed that of every mechanism is given",
    "recall.py": "MiniLM of another library, which stands beside the product as a baseline",
    "speed.py": "torch's LSTM, by whose speed that of every mechanism is given",
    "stored.py": "the type of a model, in a signature",
    "side_by_side.py": "models of other libraries in one training loop with the product's",
}


def modelling(path: Path) -> list[str]:
    """The imports and names in a file that make a model."""
    tree = ast.parse(path.read_text("utf-8"))
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
            found += WORDS.findall(names[0])
        elif isinstance(node, ast.keyword) and node.arg is not None:
            found += WORDS.findall(node.arg)
        found += [name for name in names if any(f"{name}.".startswith(f"{module}.") for module in MODULES)]
    return found


@pytest.mark.parametrize("path", [path for path in FILES if path.name not in EXEMPT], ids=lambda path: path.name)
def test_a_benchmark_makes_no_model(path: Path) -> None:
    assert not modelling(path), f"{path.name} holds modelling of its own: let the product do it"


def test_what_is_exempt_needs_to_be() -> None:
    assert {path.name for path in FILES} >= EXEMPT.keys()
    assert [name for name in EXEMPT if not modelling(FOLDER / name)] == []


@pytest.mark.parametrize(
    "code",
    [
        "from sklearn.svm import LinearSVC",
        "import torch.nn as layers",
        "from torch import nn",
        "states = model(ids, output_hidden_states=True)",
        "x = model(ids).hidden_states",
        "loss = torch.nn.functional.cross_entropy(a, b)",
    ],
)
def test_modelling_is_recognised(code: str, tmp_path: Path) -> None:
    path = tmp_path / "benchmark.py"
    path.write_text(code, "utf-8")
    assert modelling(path)


PEERS = {path.stem.replace("-", "_"): path for path in sorted((FOLDER / "peers").iterdir())}


def imported(path: Path) -> set[str]:
    """The first names of the modules that a file imports."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_a_peer_is_pinned_with_all_that_it_needs_but_torch() -> None:
    for path in PEERS.values():
        head, *lines = path.read_text("utf-8").splitlines()
        assert head.startswith(
            f"# pip install --no-deps --target build/peers/{path.stem} -r benchmarks/peers/{path.name};"
        )
        assert [line for line in lines if not re.fullmatch(r"[a-z0-9_-]+==[0-9][0-9a-z.]*", line)] == []
        assert not any(line.startswith("torch==") for line in lines)


def test_a_benchmark_and_its_peers_name_each_other() -> None:
    imports = {path: imported(path) for path in FILES}
    for peer in PEERS:
        paths = [path for path, names in imports.items() if peer in names]
        assert paths, f"no benchmark imports {peer}"
        for path in paths:
            assert f"python -m benchmarks.{path.stem}" in PEERS[peer].read_text("utf-8").splitlines()[0]
            text = path.read_text("utf-8")
            assert "-r benchmarks/peers/" in text
            assert PEERS[peer].stem in text


def test_a_rule_that_differs_from_its_reference_is_noticed() -> None:
    """The reference casts to single precision, as those of fla do; compared in double precision it does not."""

    def single(*inputs: Tensor) -> tuple[Tensor, Tensor]:
        return gated_delta_rule(*(x.float() for x in inputs), 8)

    def writes_less(
        q: Tensor, k: Tensor, v: Tensor, decay: Tensor, rate: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        return single(q, k, v, decay, rate * 0.99, memory)

    rows = delta_reference.compared("gated delta rule", {"loop": single, "other": writes_less})
    found = {(row["by"], row["bits"]): row["largest"] for row in delta_reference.largest(rows)}
    assert len(found["memspan", 64]) == 8
    assert max(tensor["relative"] for tensor in found["memspan", 64].values()) < 1e-12
    assert 1e-12 < max(tensor["relative"] for tensor in found["memspan", 32].values()) < 1e-4
    assert min(tensor["relative"] for tensor in found["other", 64].values()) > 1e-4


SENT: list[tuple[str, str | None]] = [("one", "1"), ("two", None), ("three", "3")]


@pytest.mark.parametrize(
    ("found", "lost", "doubled", "wrong"),
    [
        ([("one", "1"), ("three", "3")], 0, 0, 0),
        ([("one", "1"), ("two", "2"), ("three", "3")], 0, 0, 0),  # kept, but the reply did not arrive
        ([("one", "1")], 1, 0, 0),
        ([("one", "1"), ("three", "4")], 1, 0, 0),
        ([("one", "1"), ("two", "2"), ("two", "2"), ("three", "3")], 0, 1, 0),
        ([("three", "3"), ("one", "1")], 0, 0, 1),
        ([("one", "1"), ("three", "3"), ("four", "4")], 0, 0, 1),
    ],
)
def test_turns_that_are_lost_doubled_or_wrong_are_noticed(
    found: list[tuple[str, str]], lost: int, doubled: int, wrong: int
) -> None:
    ledger = Ledger()
    compare_turns(ledger, "conversation", SENT, found)
    assert len(ledger.lost) == lost
    assert len(ledger.doubled) == doubled
    assert (len(ledger.wrong) > 0) == (wrong > 0)


def test_only_a_kill_explains_no_reply_and_only_a_full_disk_a_refusal() -> None:
    down, full = [(10.0, 20.0)], [(30.0, 40.0)]
    explained = [Request("turn", 9, 11, 0), Request("turn", 35, 36, 507), Request("turn", 1, 2, 200)]
    assert unexpected(explained, down, full) == []
    others = [Request("turn", 1, 2, 0), Request("turn", 15, 16, 507), Request("turn", 35, 36, 500)]
    assert len(unexpected(others, down, full)) == 3


def test_latencies_leave_out_what_a_kill_delayed() -> None:
    calm = [Request("turn", float(at), at + 1.0, 200) for at in range(10)]
    faulty = [Request("turn", float(at), at + 2.0, 200) for at in range(10, 20)]
    delayed = [Request("turn", 12.0, 19.5, 200), Request("turn", 5.0, 100.0, 507)]
    found = latencies([*calm, *faulty, *delayed], [(0.0, 10.0)], [(10.0, 25.0)], [(19.0, 19.2)])
    assert found["ratio of p99"] == pytest.approx(2)
    assert found["requests"] == [10, 8]


def test_memory_is_that_of_the_longest_life() -> None:
    samples = [(float(at), 0.0, 2**30, 9) for at in range(20)]
    samples += [(100.0 + at, 100.0, 2**20 * (50 + at), 9) for at in range(60)]
    assert memory_of(samples)["slope, MiB a minute"] == pytest.approx(60)


def test_growth_is_that_of_the_last_half_alone() -> None:
    times = [float(second) for second in range(721)]
    found = growth(times, [min(second, 300) + 2 * max(0, second - 360) / 60 for second in times])
    for name in ("medians", "floors"):
        assert found[f"slope of the {name} of the last half, MiB a minute"] == pytest.approx(2, rel=0.05)
    flat = growth(times, [min(second, 300) for second in times])
    assert flat["interval of the slope of the medians"] == pytest.approx([0, 0], abs=1e-9)
    assert flat["MiB, median of each sixth of the time"][-3:] == [300, 300, 300]
    peaks = growth(times, [300.0 + 40 * (second % 5 == 0) * (second / 600) for second in times])
    assert peaks["MiB, floor of each sixth of the time"] == [300] * 6
    assert flat["minutes of the last half"] == pytest.approx(6)


def test_an_error_of_another_form_is_noticed() -> None:
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n"
    body = b'{"error": {"message": "m", "type": "t", "param": null, "code": null}}'
    reply = head % len(body) + body
    assert is_whole(reply)
    assert is_error(reply)
    assert not is_whole(reply[:-1])
    for wrong in (b"Invalid", b"{}", b'{"error": "m"}', b'{"error": {"message": "m"}}'):
        assert not is_error(head % len(wrong) + wrong)
