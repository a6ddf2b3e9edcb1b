"""Programs are read as they stand, with marks for functions and classes; notebooks as their cells."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from memspan.data.documents import open_documents
from tests.data.files import refusal, text_of, written


def outline(path: Path) -> list[tuple[int, str | None]]:
    """The line and the qualified name at each mark."""
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    kinds: dict[str, list[object]] = {"line": [], "heading": []}
    for _, mark in chunk.marks:
        kinds[mark.kind].append(mark.value)
    return list(zip(kinds["line"], kinds["heading"], strict=True))  # type: ignore[arg-type]


PROGRAMS = {
    "a.py": (
        "import os\n\n\n# Of a ship.\n@final\nclass Ship:\n    '''A def in text:\n\ndef not_this():\n    '''\n\n    async def sail(self) -> None:\n"
        "        def inner(): ...\n\n    speed = 7\n\n\nRANGE = (\n    1,\n)\n",
        [(4, "Ship"), (12, "Ship.sail"), (13, "Ship.sail.inner"), (15, "Ship"), (18, None)],
    ),
    "a.ts": (
        "export class Ship<T> extends Hull {\n  private async sail(to: string): Promise<void> {\n    if (to) {\n      go(to);\n    }\n  }\n}\n"
        "export const dock = async (at: Port) => {\n};\nexport default function land() {\n}\nlet x = 7;\n",
        [(1, "Ship"), (2, "Ship.sail"), (8, "dock"), (10, "land"), (12, None)],
    ),
    "a.cpp": (
        "#include <map>\n\n// Sails.\nstatic std::map<int, int> sail(const Ship& ship,\n                 int knots)\n{\n    return f(1);\n}\n\n"
        "struct Ship {\n  int knots() const {\n    return 7;\n  }\n};\n",
        [(3, "sail"), (10, "Ship"), (11, "Ship.knots")],
    ),
    "a.go": ("package main\n\nfunc (s *Ship) Sail(to string) error {\n\treturn nil\n}\n\ntype Ship struct {\n}\n", [(3, "Sail"), (7, "Ship")]),
    "a.rs": ("impl Ship {\n    pub(crate) fn sail<T>(&self) -> i32 {\n        7\n    }\n}\n", [(1, "Ship"), (2, "Ship.sail")]),
    "a.rb": ("class Ship < Hull\n  def self.sail(to)\n    7\n  end\nend\nputs 7\n", [(1, "Ship"), (2, "Ship.self.sail"), (6, None)]),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_definitions_are_marked_with_their_lines(tmp_path: Path, name: str) -> None:
    program, expected = PROGRAMS[name]
    path = written(tmp_path / name, program)
    assert text_of(path) == program
    assert outline(path) == expected


def definitions(tree: ast.AST, around: str = "") -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        name = around
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{around}.{node.name}".lstrip(".")
            yield name
        yield from definitions(node, name)


@pytest.mark.parametrize("name", ["chunking", "documents", "headings", "marks"])
def test_python_is_marked_as_its_parser_sees_it(name: str) -> None:
    path = Path(__file__).parents[3] / "memspan" / "data" / f"{name}.py"
    found = [heading for _, heading in outline(path) if heading]
    assert list(dict.fromkeys(found)) == list(definitions(ast.parse(path.read_text("utf-8"))))


NOTEBOOK = {
    "cells": [
        {"cell_type": "markdown", "source": ["# The plan\n", "\n", "Words."]},
        {
            "cell_type": "code",
            "source": "# a comment\nprint(7)",
            "outputs": [
                {"output_type": "stream", "text": ["7\n"]},
                {"output_type": "display_data", "data": {"image/png": "AAAA", "text/plain": ["<Figure>"]}},
                {"output_type": "error", "ename": "KeyError", "evalue": "'x'", "traceback": ["\x1b[31mno"]},
            ],
        },
        {"cell_type": "raw", "source": ""},
    ],
    "nbformat": 4,
}


def test_cells_of_a_notebook_are_read_with_outputs_that_are_text(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ipynb", json.dumps(NOTEBOOK))
    assert text_of(path) == ("# The plan\n\nWords.\n\n# a comment\nprint(7)\n\nOutput:\n7\n<Figure>\nKeyError: 'x'")
    (document,) = open_documents([path])
    (chunk,) = document.marked_chunks()
    assert [mark.value for _, mark in chunk.marks if mark.kind == "heading"] == ["The plan"]


def test_what_is_no_notebook_is_refused(tmp_path: Path) -> None:
    for content in ("{", "[]", "7", '{"cells": 7}', '{"cells": [7]}', "words"):
        assert "is damaged or no notebook at all" in refusal(written(tmp_path / "a.ipynb", content))
