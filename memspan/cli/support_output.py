"""What the commands of `memspan support` print."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspan.cli.output import count, number_table, print_info, print_json, print_line, print_table

if TYPE_CHECKING:
    from memspan.apps.support.evaluation import Share
    from memspan.apps.support.exchanges import Imported
    from memspan.apps.support.folder import Built, Read
    from memspan.apps.support.reply import Reply
    from memspan.apps.support.store import HandOver


def print_import(imported: "Imported", path: Path) -> None:
    """Print which columns were taken, and the rows that are not used."""
    print_info(imported.columns_in_words())
    if imported.problems:
        print_info(imported.problems_in_words(str(path)))


# The parameters are what a build returns.
def print_built(folder: Path, imported: "Imported", read: "Read", built: "Built", as_json: bool) -> None:
    """Print what a support folder holds, and what it will not reply."""
    for problem in (*read.failed, *read.skipped):
        print_info(f"not read: {problem}")
    private = [exchange.row for exchange in built.private]
    if private:
        rows = ", ".join(str(row) for row in private[:5]) + (", ..." if len(private) > 5 else "")
        print_info(
            f"{count(len(private), 'reply').replace('replys', 'replies')} will be given to nobody else, because they tell a "
            f"number, an e-mail address or a telephone number of their customer alone: rows {rows}."
        )
    if built.unanswered:
        print_info(f"Without a template or a past answer: {', '.join(built.unanswered)}.")
    intents = built.intents
    result = {
        "folder": str(folder),
        "documents": read.documents,
        "exchanges": len(imported.exchanges),
        "rows not used": {str(row): problem for row, problem in imported.problems.items()},
        "columns": imported.columns,
        "past answers": built.past_answers,
        "private": private,
        "unanswered intents": built.unanswered,
        "intents": [] if intents is None else intents.labels,
        "classifiers": {
            name: {
                "features": classifier.features,
                "unfamiliar words count": classifier.familiar is not None,
                "threshold": classifier.threshold,
                "choices": [asdict(choice) for choice in classifier.choices],
            }
            for name, classifier in ({} if intents is None else intents.classifiers).items()
        },
    }
    if as_json:
        print_json(result)
        return
    print_line(
        f"{folder} holds {count(read.documents, 'document')}, {count(built.past_answers, 'past answer')} and "
        f"{count(0 if intents is None else len(intents.labels), 'intent')}."
    )
    for name, classifier in ({} if intents is None else intents.classifiers).items():
        print_line(
            f"Messages in the language '{name}': features {', '.join(classifier.features)}; unfamiliar words "
            f"{'do not count' if classifier.familiar is None else 'count'}; one whose likeliest intent has a confidence below "
            f"{classifier.threshold:.2f} fits none."
        )


def print_queue(waiting: "Sequence[HandOver]") -> None:
    """Print questions with the reason and the last turns of their customers."""
    if not waiting:
        print_line("No question waits for a person.")
    for hand_over in waiting:
        when = datetime.fromtimestamp(hand_over.time, UTC).strftime("%Y-%m-%d %H:%M")
        state = "" if hand_over.answer is None else f", answered: {hand_over.answer}"
        print_line(f"{hand_over.id}  {hand_over.customer}, {when}: {hand_over.message}{state}", style="bold")
        print_line(f"    {hand_over.reason}", style="dim")
        for turn in hand_over.transcript:
            print_line(f"    > {turn['message']}")
            print_line(f"    {turn['reply']}", style="dim")


def print_shares(shares: "Mapping[str, Share]") -> None:
    """Print the shares of an evaluation with their intervals."""
    table = number_table(("metric", "share", "95 % interval", "messages"), labels=1)
    for name, share in shares.items():
        shown = (
            ("", "") if share.interval is None else (f"{share.value:.3f}", "{:.3f} to {:.3f}".format(*share.interval))
        )
        table.add_row(name, *shown, f"{share.of:,}")
    print_table(table)


def print_reply(found: "Reply") -> None:
    """Print a reply, what it rests on, and answers of persons to earlier questions before it."""
    from memspan.apps.support.phrases import language, phrase

    for earlier in found.answered:
        print_line(phrase("answered", language(earlier.message), ticket=earlier.id, answer=earlier.answer))
    print_line(found.text)
    details: list[Any] = [found.kind]
    if found.guess is not None:
        fits = "" if found.guess.is_known else ", fits none"
        details.append(f"intent {found.guess.intent} ({found.guess.confidence:.2f}{fits})")
    if found.support is not None:
        details.append(f"knowledge {found.support:.2f}")
    print_line(f"  {', '.join(details)}", style="dim")
    for source in found.sources:
        where = ", ".join(part for part in (source.get("source"), source.get("location")) if part)
        print_line(
            f"  [{source['number']}] {where}" if where else f"  past answer {source['past_answer']}", style="dim"
        )
    if found.reason is not None:
        print_line(f"  {found.reason}", style="dim")
