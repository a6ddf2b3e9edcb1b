"""`memspan audit`: the log of what was done with memories."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memspan.cli.commands import command
from memspan.cli.options import AS_JSON
from memspan.cli.output import count, print_error, print_info, print_json, print_line

if TYPE_CHECKING:
    from memspan.memory.audit import Verified


# The parameters are the options.
@command()
def audit(
    log: Annotated[Path, typer.Argument(metavar="FILE", help="Log, written with --audit or $MEMSPAN_AUDIT.")],
    memory: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Memory whose sources are shown by name, as far as it still has them."),
    ] = None,
    question: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Only lines with exactly this question, which this user asked.")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only lines that touch the source with this name, written by this user."),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HASH",
            help="Hash of the last line at an earlier time: an error if the log no longer holds that line.",
        ),
    ] = None,
    as_json: AS_JSON = False,
) -> None:
    """Verify an audit log and show it: who did what with which memory, when; the exit status is 1 if it was tampered with.

    Each line holds the hash of the line before. The hash of the last line, which is printed at the end, is worth noting
    elsewhere: with --head it proves that no line up to there was cut off. Names of sources and questions stand in the log as
    keyed hashes unless $MEMSPAN_AUDIT_DETAIL is names or text.

    Example: memspan audit memories.log --memory library.mem
    """
    from memspan.memory.audit import keyed_hash, verify

    verified = verify(log)
    known: dict[str, str] = {}
    if memory is not None:
        from memspan.memory import load_memory

        known = {keyed_hash(name): name for name in load_memory(memory).sources}
    shown = verified.lines
    if question is not None:
        shown = [
            line
            for line in shown
            if question == line.get("question") or line.get("question_hash") == keyed_hash(question)
        ]
    if source is not None:
        wanted = {source, keyed_hash(source)}
        shown = [line for line in shown if wanted & set(map(str, line.get("sources", ())))]
    problems = [f"line {finding.line}: {finding.problem}" for finding in verified.findings]
    if head is not None and head not in verified.hashes:
        problems.append(f"no line has the hash {head}: lines were cut off or changed, or it is the hash of another log")
    if as_json:
        lines = [{**line, "sources": _named(line, known)} for line in shown]
        remarks = [f"line {remark.line}: {remark.problem}" for remark in verified.remarks]
        print_json({"lines": lines, "problems": problems, "remarks": remarks, "head": verified.head})
    else:
        _print(verified, shown, known)
    for problem in problems:
        print_error(f"tampered: {problem}")
    if problems:
        raise typer.Exit(1)


def _print(verified: "Verified", shown: list[dict[str, Any]], known: dict[str, str]) -> None:
    """Print a line for each that is chosen, and what the log as a whole is."""
    for line in shown:
        if "command" not in line:
            continue
        memories = ", ".join(map(str, line.get("memories", ())))
        outcome = "" if line.get("outcome") == "done" else f", {line.get('outcome')}"
        print_line(f"{line.get('time')}  {line.get('user')}  {line['command']} {memories}{outcome}")
        if question := line.get("question") or line.get("question_hash"):
            print_line(f"    question {question}", style="dim")
        if sources := _named(line, known):
            print_line(
                f"    {count(int(line.get('number_of_sources', 0)), 'source')}: {', '.join(sources)}", style="dim"
            )
    for remark in verified.remarks:
        print_info(f"line {remark.line}: {remark.problem}")
    state = "The chain is whole" if not verified.findings else "The chain is broken"
    print_line(f"{state}: {count(len(verified.lines), 'line')}, the last with the hash {verified.head}")


def _named(line: dict[str, Any], known: dict[str, str]) -> list[str]:
    """The sources of a line by name, as far as names are known."""
    sources = line.get("sources", ())
    return [known.get(str(each), str(each)) for each in sources] if isinstance(sources, list) else []
