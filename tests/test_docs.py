"""Every fenced block of the documentation runs: commands in this process, Python block by block, YAML as a training run.

A page is run from top to bottom in one folder, so a block may use what an earlier one made. A tiny random model stands in for
the embedded one, and training commands are cut to two steps. A block that is not run has a comment with the reason.
"""

import io
import json
import re
import shlex
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import memspan
from memspan.cli import run as run_command
from memspan.models.folders import write_checksums
from memspan.pretrained import hub
from memspan.pretrained.identity import gguf_identity
from memspan.training.config import TrainConfig
from memspan.training.ewc import EWC
from tests.paths import ROOT
from tests.tiny import logbook

PAGES = [
    *(ROOT / name for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
RUN, NOT_RUN = {"bash", "python", "yaml"}, {"text", "toml", "json"}
MOST_NOT_RUN = 4
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
TARGETS = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match["language"], match["text"], match["reason"])
        for match in FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks(page)]
RUNNABLE = [page for page in PAGES if any(block.language in RUN and not block.reason for block in blocks(page))]


def test_every_block_has_a_language() -> None:
    for block in BLOCKS:
        assert block.language in RUN | NOT_RUN, f"{block} must be one of {sorted(RUN | NOT_RUN)}"
    fences = sum(page.read_text("utf-8").count("\n```") for page in PAGES)
    assert fences == 2 * len(BLOCKS)


def test_few_blocks_are_not_run() -> None:
    assert len([block for block in BLOCKS if block.reason]) <= MOST_NOT_RUN


def test_the_api_page_lists_every_public_name() -> None:
    listed = re.findall(r"^::: memspan\.(\w+)$", (ROOT / "docs" / "api.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(memspan.__all__)


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_lead_to_files(name: str) -> None:
    """Those of the site are checked by `mkdocs build --strict`."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text("utf-8")):
        assert target.startswith("https://") or (ROOT / target).is_file(), target


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f": {page.name}" in navigation


@pytest.fixture(scope="module")
def stand_in(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny model in a cache of its own, where the embedded model would be: `smollm2` loads it."""
    cache = tmp_path_factory.mktemp("cache")
    embedded = hub.EMBEDDED[hub.DEFAULT]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEMSPAN_CACHE", str(cache))
        folder = cache / "models" / f"{hub.DEFAULT}-{embedded.gguf_sha256[:16]}"
        shutil.copytree(tiny_model, folder)
        (folder / "memspan.json").write_text(json.dumps({"name": hub.DEFAULT, "gguf_sha256": embedded.gguf_sha256}))
        write_checksums(folder)
        heads = memspan.load_model(str(tiny_model)).heads
        heads.save(folder / "heads.json", gguf_identity(embedded.gguf_sha256))
        yield cache


@pytest.fixture
def folder(stand_in: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the documentation mentions."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEMSPAN_CACHE", str(stand_in))
    monkeypatch.delenv("MEMSPAN_MODEL", raising=False)
    monkeypatch.setattr(EWC.estimate.__func__, "__defaults__", (4,))  # streams: as many as `--steps 2` is worth
    shutil.copytree(ROOT / "examples" / "notes", tmp_path / "examples" / "notes")
    shutil.copytree(tiny_model, tmp_path / "your-model")
    short = f"{logbook()[:3000]}\n\nThe treasure was buried beneath the third stair."
    files = {
        "more-notes/extra.md": "The library opens at nine.",
        "book.txt": short,
        "README.md": "A small server.",
        "src/server.py": "def parse_header(line):\n    # retry after a timeout\n    return line.split(':')\n",
        "chat.jsonl": '{"role": "user", "content": "My dog is called Pretzel."}\n',
        "talk.vtt": "WEBVTT\n\n00:01.000 --> 00:04.000\n<v Ann Vel>The harbour is full of ships.\n",
        "app.log": "09:00 started\n09:01 connection refused\n",
        "boot.log": "08:59 kernel up\n",
        "西游记.txt": "花果山水帘洞，洞天福地。那座山正当顶上有一块仙石。" * 5,
        "texts.txt": "Please send us the bill.\nWe would like a quiet room.\n",
        "turns.txt": "Hello, I am Ada. I would like soup on Friday.\nGladly. What else?\nThen please write it down.\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "老文件.txt").write_bytes(("水帘洞里有一座石桥。" * 5).encode("gb18030"))
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_a_page_runs(
    page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if page.name == "frameworks.md":
        pytest.skip("tests/serve/integrations runs the examples of this page")

    def run(line: str) -> None:
        words = shlex.split(line, comments=True)
        if "<" in words:
            position = words.index("<")
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path(words[position + 1]).read_bytes())))
            del words[position : position + 2]
        else:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        capsys.readouterr()
        code = run_command(shortened(words[1:]))
        assert code == 0, f"{line}\n{capsys.readouterr().err}"

    namespace: dict[str, object] = {"__name__": "__documentation__"}
    for block in blocks(page):
        if block.reason is not None:
            continue
        if block.language == "yaml":
            Path("run.yaml").write_text(block.text, "utf-8")
            TrainConfig.load("run.yaml").replace(steps=2).save("run.yaml")
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, str(block.page), "exec"), namespace)
        elif block.language == "bash":
            for line in lines(block.text):
                if line.startswith("memspan "):
                    if not (page.name == "tasks.md" and is_tested_elsewhere(line)):
                        run(line)
                else:
                    check(line)


def lines(text: str) -> list[str]:
    """The commands of a block, continued lines joined."""
    joined = re.sub(r"\\\n\s*", "", text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def shortened(arguments: list[str]) -> list[str]:
    """The same command, with so little training and evaluation that it takes a second."""
    if arguments[0] == "eval":
        return [*arguments, "--batch-size", "4", "--segments", "2"]
    if arguments[:2] == ["recommend", "eval"]:
        return [*arguments, "--network", "0.2"]
    if arguments[0] not in {"train", "compare", "tune"}:
        return arguments
    if "--seconds" in arguments:
        position = arguments.index("--seconds")
        arguments = [*arguments[:position], *arguments[position + 2 :]]
    if arguments[0] == "tune":
        return [*arguments, "--trials", "1"]
    extra = ["--seeds", "1", "--limit", "12"] if arguments[0] == "compare" else []
    if "--state-bytes" in arguments:
        extra += ["--lengths", "2"]  # every mechanism is sized at the longest one
    return [*arguments, *extra, "--steps", "2", "--batch-size", "4"]


def is_tested_elsewhere(line: str) -> bool:
    """tests/cli/test_documented.py runs the comparisons of docs/tasks.md, on the samples and with the files absent."""
    return line.startswith("memspan compare")


def check(line: str) -> None:
    """A line that is no memspan command must at least be right about this repository."""
    match shlex.split(line, comments=True):
        case ["git", "clone", url]:
            assert url == PROJECT["urls"]["Source"]
        case ["cd", folder]:
            assert folder == PROJECT["name"]
        case ["make", *targets]:
            assert set(targets) <= TARGETS
        case ["pip", "install", *_, requirement]:
            extras = re.findall(r"\[(.*?)\]", requirement)
            assert all(set(extra.split(",")) <= PROJECT["optional-dependencies"].keys() for extra in extras)
        case _:
            pytest.fail(f"the tests do not know what to do with: {line}")


def test_the_harness_sees_a_wrong_option(folder: Path) -> None:
    assert run_command(["search", "--no-such-option"]) == 2


def test_the_notebook_runs(folder: Path) -> None:
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text("utf-8"))
    assert notebook["nbformat"] == 4
    namespace: dict[str, object] = {"__name__": "__notebook__"}
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert cells
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for number, cell in enumerate(cells, 1):
        exec(compile("".join(cell["source"]), f"quickstart.ipynb, cell {number}", "exec"), namespace)
