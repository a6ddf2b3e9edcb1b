"""The program in docs/server.md does what the page says."""

from pathlib import Path

import pytest

from memspan import LanguageModel
from memspan.serve.library import LOCAL
from tests.paths import ROOT
from tests.serve.running import running

PAGE = (ROOT / "docs" / "server.md").read_text("utf-8")


def test_the_program_of_the_page_runs(tmp_path: Path, lm: LanguageModel, capsys: pytest.CaptureFixture[str]) -> None:
    program = PAGE.split("```python\n")[1].split("```")[0]
    with running(tmp_path, lm, model="smollm2") as server:
        library = server.service.library
        library.create(LOCAL, "book")
        with library.lease(LOCAL, "book") as memory:
            lm.read("The treasure was buried beneath the third stair.", memory, source="book.txt")
        address = "http://127.0.0.1:8000"
        assert address in program
        namespace: dict[str, object] = {}
        exec(program.replace(address, server.url), namespace)
        client = namespace["client"]
        client.close()  # type: ignore[attr-defined]
    printed = capsys.readouterr().out
    assert "book.txt The treasure was buried beneath the third stair." in printed
    assert "user Ada lives in Turku." in printed


def test_every_route_is_named(lm: LanguageModel, tmp_path: Path) -> None:
    with running(tmp_path, lm) as server, server.http() as http:
        paths = http.get("/openapi.json").json()["paths"]
    for path in paths:
        assert f"`{path.split('/{')[0].removesuffix('/items')}" in PAGE, path
