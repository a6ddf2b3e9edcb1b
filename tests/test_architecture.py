"""The design as a test: rooms import only from their left, nobody knows a mechanism's name, nothing executes data."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import memspan
from memspan.mechanisms import MECHANISMS

PACKAGE = Path(memspan.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From left to right; a room is the first name below memspan. Adding a room means deciding where it stands.
ROOMS = [
    "errors",
    "state",
    "plugins",
    "mechanisms",
    "testing",
    "data",
    "models",
    "pretrained",
    "memory",
    "assistant",
    "tasks",
    "training",
    "evaluation",
    "explain",
    "serve",
    "apps",
    "cli",
    "__main__",
]


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """The rooms that a file imports from, wherever in the file, type checking included."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("memspan."):
                yield name.split(".")[1]


def test_every_room_has_a_place() -> None:
    assert {room(path) for path in FILES} - {"__init__"} <= set(ROOMS)


def test_rooms_import_from_their_left_only() -> None:
    assert [
        f"{path} imports {name}, which stands to the right of {room(path)}"
        for path in FILES
        if room(path) != "__init__"
        for name in imports(path)
        if name in ROOMS and ROOMS.index(name) > ROOMS.index(room(path))
    ] == []


def test_no_room_is_called_by_what_it_is_not() -> None:
    stems = {part.removesuffix(".py") for path in FILES for part in path.relative_to(PACKAGE).parts}
    assert not stems & {"utils", "util", "common", "core", "helpers", "misc"}


@cache
def known_by(path: Path) -> dict[str, int]:
    """The classes and strings that a file knows, each with a line in which it does."""
    tree = ast.parse(path.read_text("utf-8"))
    keys = {key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys}  # names of their own
    known = {}
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.alias(name=name):
                known[name] = node.lineno
            case ast.Attribute(value=value, attr=name) if ast.unparse(value) != "nn":  # torch has an LSTM of its own
                known[name] = node.lineno
            case ast.Constant(value=str(text)) if node not in keys:
                known[f"'{text}'"] = node.lineno
    return known


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_nobody_else_knows_a_mechanism(name: str) -> None:
    """Neither its registered name nor its class stands in the code of another file of the package."""
    cls = MECHANISMS[name]
    home = {Path(__import__(cls.__module__, fromlist=["_"]).__file__ or ""), PACKAGE / "mechanisms" / "__init__.py"}
    for path in set(FILES) - home:
        line = known_by(path).get(cls.__name__) or known_by(path).get(f"'{name}'")
        assert line is None, f"{path.relative_to(PACKAGE)}:{line} knows {name}"


def test_a_mechanism_is_known_at_home() -> None:
    """The names are those that the law above looks for."""
    at_home = known_by(PACKAGE / "mechanisms" / "__init__.py")
    assert all(cls.__name__ in at_home for cls in MECHANISMS.values() if cls.__module__.startswith("memspan."))


def test_data_is_never_executed() -> None:
    assert [finding for path in FILES for finding in executes(path)] == []


def executes(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None) or ""}
            if names & {"pickle", "dill", "joblib", "shelve", "marshal"}:
                yield f"{path}:{node.lineno} imports {', '.join(names)}"
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.split(".")[-1] == "treespec_loads" or called in {"eval", "exec", "torch.load", "yaml.load"}:
                yield f"{path}:{node.lineno} calls {called}"


def test_public_names() -> None:
    assert memspan.__all__ == sorted(memspan.__all__)
    for name in memspan.__all__:
        assert getattr(memspan, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = memspan.nothing
