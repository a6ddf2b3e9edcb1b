"""The style of the code as a test: sizes that can be read at once, plain words, and no private names of other modules."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import memspan

PACKAGE = Path(memspan.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
LINES, FUNCTION_LINES, PARAMETERS = 400, 60, 8
TOP_NAMES, TOP_FILES = 19, 6

# Words that once stood for data of every kind. The field has names for these things; see the glossary in CONTRIBUTING.md.
RETIRED = frozenset(
    [
        "told",
        "said",
        "asked",
        "one",
        "ones",
        "place",
        "places",
        "piece",
        "pieces",
        "somebody",
        "shelf",
        "shelves",
        "tally",
        "judge",
        "reminded",
        "recollection",
    ]
)


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def defined_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Every name that a file gives: variables, arguments, attributes, functions, classes, keyword arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or (
            isinstance(node, ast.ExceptHandler) and node.name is not None
        ):
            yield node.name, node.lineno


def test_the_top_of_the_package_can_be_kept_in_mind() -> None:
    names = [path for path in PACKAGE.iterdir() if path.name != "__pycache__" and path.name != "py.typed"]
    assert len(names) <= TOP_NAMES
    assert sum(path.suffix == ".py" for path in names) <= TOP_FILES


def test_files_and_functions_can_be_read_at_once() -> None:
    """A function may be longer, or take more parameters, where a comment right above it says why."""
    assert [finding for path in FILES for finding in too_large(path)] == []


def too_large(path: Path) -> Iterator[str]:
    lines = path.read_text("utf-8").splitlines()
    if len(lines) > LINES:
        yield f"{path} has {len(lines)} lines"
    for function in functions(parse(path)):
        first = min([function.lineno, *(decorator.lineno for decorator in function.decorator_list)])
        if first > 1 and lines[first - 2].strip().startswith("#"):
            continue
        if function.end_lineno - function.lineno >= FUNCTION_LINES:  # type: ignore[operator]
            yield f"{path}: {function.name} is long"
        arguments = function.args
        count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
        count -= any(argument.arg in ("self", "cls") for argument in arguments.args[:1])
        if count > PARAMETERS:
            yield f"{path}: {function.name} takes {count} parameters"


def test_names_are_those_of_the_field() -> None:
    assert [
        f"{path}:{line} uses the retired name {name}"
        for path in FILES
        for name, line in defined_names(parse(path))
        if name.strip("_") in RETIRED
    ] == []


def test_no_private_name_of_another_module_is_used() -> None:
    assert [
        f"{path}:{node.lineno} imports {alias.name} of {node.module}"
        for path in FILES
        for node in ast.walk(parse(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memspan")
        for alias in node.names
        if re.match(r"_[a-z]", alias.name)
    ] == []


def test_a_module_says_what_it_is() -> None:
    """Its docstring begins with a sentence; an empty `__init__.py` needs none."""
    described = [path for path in FILES if path.name != "__init__.py" or path.read_text("utf-8").strip()]
    assert [path for path in described if not (ast.get_docstring(parse(path)) or "").split(".")[0].strip()] == []
