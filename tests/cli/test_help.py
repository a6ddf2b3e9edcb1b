"""The help: quick, in the order in which commands are needed, and true."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from memspan import cli
from memspan.cli import ORDER, command_files
from memspan.cli.options import Loading
from memspan.data.formats import format_names
from tests.commands import Run

COMMANDS = (
    *(
        "read",
        "ask",
        "search",
        "history",
        "chat",
        "inspect",
        "fork",
        "forget",
        "retain",
        "merge",
        "export",
        "import",
        "push",
        "pull",
        "audit",
        "models",
        "mcp",
        "serve",
    ),
    *("train", "tune", "average", "eval", "predict", "compare", "trace", "explain", "bias"),
    *("summarise", "translate", "brief"),
    *("monitor", "support", "review", "recommend"),
)
IN_GROUPS = (
    *("monitor sample", "monitor train", "monitor init", "monitor run", "monitor report", "monitor replay"),
    "monitor forget",
    *("recommend sample", "recommend build", "recommend add", "recommend for", "recommend forget", "recommend eval"),
    *("support sample", "support build", "support reply", "support chat", "support queue", "support answer"),
    *("support forget", "support eval", "support serve"),
    *("review list", "review show", "review approve", "review reject", "review edit", "review export", "review forget"),
)


def words(run: Run, *arguments: str) -> str:
    """A help without its frames, each run of spaces as one."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", run(*arguments, "--help").out).split())


def test_commands_stand_in_the_order_in_which_they_are_needed(run: Run) -> None:
    assert tuple(re.findall(r"^│ ([a-z]+) ", run("--help").out, re.MULTILINE)) == COMMANDS


def test_a_file_of_commands_is_found_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(command_files()) == {module.name for module in pkgutil.iter_modules(cli.__path__)}
    assert command_files()[: len(ORDER)] == list(ORDER)
    monkeypatch.setattr(cli, "ORDER", ORDER[1:])
    assert command_files()[: len(ORDER) - 1] == list(ORDER[1:])
    assert "read" in command_files()  # one that has no place in the order comes after those that do


HEAVY = {
    *("torch", "transformers", "tokenizers", "huggingface_hub", "accelerate", "gguf", "datasets", "sklearn", "scipy"),
    *("matplotlib", "lxml", "pypdf", "PIL", "cv2", "onnxruntime", "rapidocr", "pypdfium2", "river", "optuna", "ray"),
}
MOST_MODULES = 900  # that Python has loaded at the end of a help; with transformers they are some thousand more


def test_help_is_quick_for_it_loads_little(library: Path) -> None:
    code = "import sys, memspan.cli as cli\nassert cli.run(sys.argv[1:]) == 0\nprint(*sys.modules, file=sys.stderr)"
    for arguments in (["--help"], ["read", "--help"], ["train", "--help"], ["--version"], ["inspect", str(library)]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)
        modules = done.stderr.split()
        assert not HEAVY & {name.partition(".")[0] for name in modules}, arguments
        assert len(modules) < MOST_MODULES, arguments


def test_commands_of_a_group_stand_in_the_order_in_which_they_are_needed(run: Run) -> None:
    for group in dict.fromkeys(name.split()[0] for name in IN_GROUPS):
        listed = re.findall(r"^│ ([a-z]+) ", run(group, "--help").out, re.MULTILINE)
        assert [f"{group} {name}" for name in listed] == [name for name in IN_GROUPS if name.split()[0] == group]


@pytest.mark.parametrize("name", [*COMMANDS, *IN_GROUPS])
def test_every_command_has_an_example_and_a_help_for_every_option(run: Run, name: str) -> None:
    text = run(*name.split(), "--help").out
    assert f"Example: memspan {name} " in text
    assert "<bool>" not in text  # a switch takes no value
    command: Any = typer.main.get_command(cli.app)
    for word in name.split():
        command = command.commands[word]
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert parameter.help.endswith((".", ")")), parameter.name


def test_defaults_in_the_help_are_true(run: Run) -> None:
    from memspan.assistant.prompt_budget import MOST_TOKENS, SMALL_PASSAGES, SMALL_TOKENS

    assert f"{SMALL_TOKENS} for a small one, up to {MOST_TOKENS:,} for a large one" in words(run, "ask")
    assert f"can use: {SMALL_PASSAGES}, or" in words(run, "ask")
    assert Loading().dtype == "auto"
    assert "[default: auto]" in words(run, "ask")
    assert run("--version").out.startswith("memspan 0.")


def test_reading_lists_the_formats_that_are_registered(run: Run) -> None:
    assert f"({', '.join(format_names())}, other text)" in words(run, "read")


def test_training_starts_with_the_options_that_matter(run: Run) -> None:
    panels = re.split(r"╭─ (.+?) ─+╮\n", run("train", "--help").out)[1:]
    titles, contents = panels[::2], panels[1::2]
    assert titles[:3] == ["Arguments", "Start here", "Task"]
    assert re.findall(r"^│ +(\S+)", contents[0], re.MULTILINE)[0] == "CONFIG"
    assert re.findall(r"^│ (--\S+)", contents[1], re.MULTILINE) == [
        *("--task", "--mechanism", "--steps", "--seconds", "--output"),
    ]
    assert "Options" not in titles  # --help has no panel to itself
    assert "--help" in contents[titles.index("Run")]
