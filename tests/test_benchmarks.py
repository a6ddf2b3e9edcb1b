"""Benchmarks measure the product: they call its commands and its public names, and hold no modelling of their own."""

import ast
import re
from pathlib import Path

import pytest

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
