"""The examples of docs/frameworks.md run as they stand there."""

import re
from pathlib import Path

import pytest

import memspan
from tests.serve.integrations.conftest import TEXTS

PAGE = Path(__file__).parents[3] / "docs" / "frameworks.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
LIBRARIES = {"integrations.langchain": "langchain_core", "llama_index": "llama_index.core", "integrations.llm": "llm"}


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(
    number: int,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    library = next(library for name, library in LIBRARIES.items() if name in EXAMPLES[number])
    pytest.importorskip(library, reason="needs the extra of this framework")
    lm = memspan.load_model(str(tiny_model))
    memory = lm.new_memory(tmp_path / "library.mem")
    for name, text in TEXTS.items():
        lm.read(text, memory, source=name)
    lm.read("human: hello", memory, source="ann/0")
    monkeypatch.chdir(tmp_path)
    exec(compile(EXAMPLES[number], str(PAGE), "exec"), {})
    out = capsys.readouterr().out
    assert ".md" in out or "Frieda" in out or "from_defaults" in EXAMPLES[number]


def test_there_are_examples_of_all() -> None:
    for name in LIBRARIES:
        assert any(name in example for example in EXAMPLES), name
