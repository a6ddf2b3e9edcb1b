"""What `memspan monitor run` prints: alerts as they come, and at the end what was stored, not used, and not delivered."""

from typing import TYPE_CHECKING

from memspan.cli.output import count, print_error, print_info, print_line

if TYPE_CHECKING:
    from memspan.apps.monitor.delivery import Delivery
    from memspan.apps.monitor.ingest import Outcome
    from memspan.apps.monitor.store import Alert, Store


def print_alert(alert: "Alert") -> None:
    from memspan.apps.monitor.alerts import sentence

    print_line(f"ALERT {alert.number}: {sentence(alert.content)}", style="bold red")
    for cause in alert.content["causes"][:3]:
        print_line(f"  {cause['time']} {cause['text']}")


def sentence_of(outcome: "Outcome", store: "Store") -> str:
    """What a run did, in words."""
    forgotten = f", {count(outcome.forgotten, 'text')} of a time that was forgotten" if outcome.forgotten else ""
    known = f", {outcome.known:,} known before" if outcome.known else ""
    return (
        f"Stored {count(outcome.stored, 'text')} in {outcome.seconds:.1f} s, {outcome.rate:,.0f} texts/s{known}{forgotten}; "
        f"{count(outcome.alerts, 'alert')}. {store.path.parent} holds {count(store.texts, 'text')}."
    )


def print_rejected(outcome: "Outcome") -> None:
    if outcome.rejected:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in outcome.rejected.most_common())
        named = "; ".join(
            f"{source}{f', line {number}' if number else ''} {reason}"
            for source, number, reason in outcome.first_rejected
        )
        print_info(f"{count(sum(outcome.rejected.values()), 'line')} not used ({reasons}). The first: {named}.")


def print_due(delivery: "Delivery") -> None:
    for name, number in delivery.finish().items():
        problem = delivery.problems.get(name, "")
        print_error(
            f"warning: {count(number, 'alert')} not delivered to {name}{f' ({problem})' if problem else ''}; stored, and sent "
            "by the next run with the same option"
        )
