"""Generated parts of the documentation: commands for docs/cli.md, mechanisms for docs/mechanisms.md, tasks for docs/tasks.md."""

import os
import re
from typing import Any

WIDTH = 140


def commands() -> str:
    os.environ.update({"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    import typer
    from typer.testing import CliRunner

    from memspan.cli import all_commands

    runner, app = CliRunner(), all_commands()
    parts = []
    for name in ["", *_names(typer.main.get_command(app))]:
        result = runner.invoke(app, [*name.split(), "--help"], prog_name="memspan", terminal_width=100)
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"## memspan {name}".rstrip() + f"\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _names(group: Any) -> list[str]:
    """The commands of a group, each followed by those of its own, as they are typed."""
    names = []
    for name, command in group.commands.items():
        own = _names(command) if hasattr(command, "commands") else []
        names += [name, *(f"{name} {other}" for other in own)]
    return names


def formats() -> str:
    """The formats of documents, as an item of a list."""
    from memspan.data.formats import format_names

    return (
        f"- Formats: {', '.join(f'`{name}`' for name in format_names())}; any other file is read as text if it is text."
    )


def mechanisms() -> str:
    """The table of the registered mechanisms: summary, paper, input, direction, and the measured size of the state."""
    from memspan.mechanisms import MECHANISMS, KVMechanism

    lines = ["| name | what is remembered | paper | input | left to right | state, bytes |", f"|{' --- |' * 6}"]
    for name, cls in MECHANISMS.items():
        summary, paper = summary_and_paper(cls)
        keys = issubclass(cls, KVMechanism)
        causal = "yes" if keys or cls.causal else "no"
        reads = "keys and values" if keys else "hidden states"
        lines.append(f"| `{name}` | {summary} | {paper} | {reads} | {causal} | {state_size(name)} |")
    return "\n".join(lines)


def summary_and_paper(cls: type) -> tuple[str, str]:
    """The two parts of a docstring's first sentence, "Summary (paper)." """
    match = re.match(r"([^()]+) \(([^()]+)\)\.", " ".join((cls.__doc__ or "").split()))
    if match is None:
        raise ValueError(f"The docstring of {cls.__name__} must begin with 'Summary (paper).'.")
    return match[1], match[2]


def state_size(name: str, width: int = 64, length: int = 4096) -> str:
    """The bytes of a stream's state after `length` tokens with default settings, and whether it still grows there."""
    import torch

    from memspan.mechanisms import build
    from memspan.state import nbytes

    torch.manual_seed(0)
    mechanism = build(width, name).eval()
    with torch.no_grad():
        earlier, size = (nbytes(mechanism(torch.randn(1, tokens, width))[1]) for tokens in (length // 2, length))
    return f"{size:,}" + (", grows" if size > earlier else "")


def tasks() -> str:
    """The table of the tasks that docs/tasks.md describes: columns and metrics."""
    lines = ["| task | columns | main metric | also |", "| --- | --- | --- | --- |"]
    for name, cls in _documented().items():
        guide = cls.guide
        metric = f"{cls.metric} {guide.note}".strip()
        lines.append(f"| [{name}](#{name.replace('_', '-')}) | {guide.columns} | {metric} | {guide.metrics} |")
    return "\n".join(lines)


def task_commands(name: str) -> str:
    """The commands that compare a memory with none on the sample of a task, and on a public corpus."""
    guide = _documented()[name].guide
    options = (guide.on_sample, guide.on_files)
    return "\n".join(["```bash", *(_wrapped(f"memspan compare --task {name} {text}") for text in options), "```"])


def further_tasks(page: str) -> str:
    """A section for each task that has none on the page: its docstring's first paragraph, and its commands."""
    written = page.split("<!-- further tasks -->")[0]
    sections = []
    for name, cls in _documented().items():
        heading = "## " + name.replace("_", " ").capitalize()
        if f"\n{heading}\n" not in written:
            about = " ".join((cls.__doc__ or "").split("\n\n")[0].split())
            sections += [f"{heading}\n\n{about}\n\n{task_commands(name)}"]
    return "\n\n".join(sections)


def _documented() -> dict[str, Any]:
    from memspan.tasks import TASKS

    return {name: cls for name, cls in TASKS.items() if cls.guide is not None}


def _wrapped(command: str) -> str:
    """A command of at most `WIDTH` columns a line, whose options stay with their values."""
    words = re.findall(r"'[^']*'|\S+", command)
    options = [[words[0]]]
    for word in words[1:]:
        if word.startswith("--"):
            options.append([word])
        else:
            options[-1].append(word)
    lines = [""]
    for option in map(" ".join, options):
        if lines[-1] and len(lines[-1]) + len(option) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(f"  {option}")
        else:
            lines[-1] = f"{lines[-1]} {option}".strip() if len(lines) == 1 else f"{lines[-1]} {option}"
    return "\n".join(lines)
