"""The help of every command, for docs/cli.md."""

import os


def commands() -> str:
    os.environ.update({"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"})
    import typer
    from typer.testing import CliRunner

    from memspan.cli import app

    runner = CliRunner()
    names = ["", *typer.main.get_command(app).commands]  # type: ignore[attr-defined]
    parts = []
    for name in names:
        result = runner.invoke(app, [*([name] if name else []), "--help"], prog_name="memspan", terminal_width=100)
        text = "\n".join(line.rstrip() for line in result.output.strip().splitlines())
        parts.append(f"## memspan {name}".rstrip() + f"\n\n```\n{text}\n```\n")
    return "\n".join(parts)
