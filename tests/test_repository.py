"""The files around the package: what pyproject.toml declares, and that nothing in the repository belongs to one machine."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import memspan
from benchmarks import report
from tests.paths import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
PROJECT = PYPROJECT["project"]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))
OF_ONE_MACHINE = re.compile(r"(?<![\w.~-])/(?:work|root|tmp|home)/\w")


def requirements(lines: list[str]) -> dict[str, Requirement]:
    parsed = map(Requirement, lines)
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


CORE = requirements(PROJECT["dependencies"])
EXTRAS = {name: requirements(lines) for name, lines in PROJECT["optional-dependencies"].items()}


def imported() -> dict[str, Path]:
    """Every top-level module that the package imports and that is neither its own nor the standard library's."""
    modules: dict[str, Path] = {}
    for path in (ROOT / "memspan").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names = [node.module]
            for name in names:
                modules.setdefault(name.partition(".")[0], path)
    return {name: path for name, path in modules.items() if name != "memspan" and name not in sys.stdlib_module_names}


def test_what_is_imported_is_declared() -> None:
    declared = CORE.keys() | {name for extra in EXTRAS.values() for name in extra}
    distributions = packages_distributions()
    for module, path in imported().items():
        names = {canonicalize_name(name) for name in distributions.get(module, [module.replace("_", "-")])}
        names |= {"llama_index": {"llama-index-core"}, "fla": {"fla-core"}}.get(
            module, set()
        )  # not installed everywhere
        assert names & declared, f"{path.relative_to(ROOT)} imports {module}, which pyproject.toml does not declare"


def test_extras_refer_to_extras() -> None:
    for extra in EXTRAS.values():
        for requirement in extra.values():
            if requirement.name == "memspan":
                assert requirement.extras <= EXTRAS.keys()


def test_the_version_stands_in_one_file() -> None:
    assert PROJECT["dynamic"] == ["version"]
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "memspan/__init__.py"
    assert f"## {memspan.__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def test_pins_are_within_the_declared_ranges() -> None:
    for name in CORE.keys() & pins().keys():
        assert CORE[name].specifier.contains(pins()[name]), name


def test_the_lowest_versions_of_the_matrix_are_the_declared_ones() -> None:
    script = [sys.executable, str(ROOT / ".ci" / "lowest"), "9.9"]
    lines = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    lowest = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}
    assert lowest.pop("torch") == Version("9.9")
    for name, requirement in CORE.items() - {("torch", CORE["torch"])}:
        assert Version(next(bound.version for bound in requirement.specifier if bound.operator == ">=")) == lowest[name]


def test_no_file_names_a_folder_of_one_machine() -> None:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if not path.is_file():  # deleted, not yet committed
            continue
        found = OF_ONE_MACHINE.search(path.read_bytes().decode("utf-8", "ignore"))
        assert found is None, f"{name} holds {found.group()}"


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_where_it_comes_from(path: Path) -> None:
    """The command to repeat it, the versions, and the commit that was measured or the one that recorded the figures."""
    result = json.loads(path.read_text("utf-8"))
    assert result["command"].startswith("python -m benchmarks.")
    module = result["command"].split()[2].partition(".")[2]
    assert (ROOT / "benchmarks" / f"{module}.py").is_file()
    assert re.fullmatch(r"[0-9a-f]{12}(-dirty)?", result.get("commit") or result["recorded_in"])
    assert "commit" not in result or isinstance(result["seeds"], list)
    assert result["machine"]["python"]


def test_a_recorded_command_can_be_repeated_elsewhere() -> None:
    program = str(ROOT / "benchmarks" / "recall.py")
    options = [
        "--data",
        str(ROOT / "docs"),
        f"--gguf={ROOT.parent / 'elsewhere' / 'm.gguf'}",
        "--seed",
        "1",
        "--text=a=b",
    ]
    repeat = "python -m benchmarks.recall --data docs --gguf=m.gguf --seed 1 --text=a=b"
    assert report.command([program, *options]) == repeat


def test_a_saved_result_holds_commit_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "speed.py"), "--steps", "3"])
    result = json.loads(report.save("speed", {"rows": []}, seeds=range(2)).read_text("utf-8"))
    assert result["command"] == "python -m benchmarks.speed --steps 3"
    assert result["seeds"] == [0, 1]
    assert result.keys() >= {"date", "commit", "machine", "figures"}


def test_the_commit_is_none_outside_a_checkout(tmp_path: Path) -> None:
    assert report.commit(tmp_path) is None
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert report.commit(tmp_path) is None  # nothing was committed
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    git = ["git", "-C", str(tmp_path), *identity]
    (tmp_path / "file").write_text("1")
    subprocess.run([*git, "add", "file"], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "file"], check=True)
    commit = report.commit(tmp_path)
    assert commit is not None
    assert re.fullmatch(r"[0-9a-f]{12}", commit)
    (tmp_path / "file").write_text("2")
    assert report.commit(tmp_path) == f"{commit}-dirty"


BENCHMARKS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "def main(" in path.read_text("utf-8"))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_shows_its_help(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It can be imported, and what it imports from the package when it runs exists."""
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    with pytest.raises(SystemExit) as leaving:
        import_module(f"benchmarks.{name}").main()
    assert leaving.value.code == 0
    assert "usage" in capsys.readouterr().out
    source = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text("utf-8"))
    for node in ast.walk(source):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("memspan"):
            module = import_module(str(node.module))
            for alias in node.names:
                assert hasattr(module, alias.name) or find_spec(f"{node.module}.{alias.name}"), alias.name


def test_every_page_with_generated_parts_is_checked() -> None:
    """By `make docs-check`: a page that is not listed would go on showing the figures of an old result."""
    (line,) = [line for line in (ROOT / "Makefile").read_text("utf-8").splitlines() if line.startswith("GENERATED")]
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    with_parts = {str(page.relative_to(ROOT)) for page in pages if "[[[cog" in page.read_text("utf-8")}
    assert set(line.split("=")[1].split()) == with_parts
