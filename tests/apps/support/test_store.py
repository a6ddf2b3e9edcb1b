"""What is kept of customers: over restarts, after a kill, and until it is forgotten."""

import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from memspan.apps.support.entities import entities
from memspan.apps.support.past_answers import PastAnswer
from memspan.apps.support.store import Customer, Store, Turn
from memspan.errors import DamagedFolder, UsageError


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "customers.sqlite", create=True)


def turn(message: str, customer: str = "ada", **fields: object) -> Turn:
    return Turn(customer, message, "Yes.", "template", entities=entities(message), **fields)  # type: ignore[arg-type]


def test_state_survives_a_restart(store: Store) -> None:
    store.record(turn("Where is 48213?", intent="track"))
    store.record(turn("And 55555, ada@x.org?", intent="refund", pending="refund"))
    store.close()
    state = Store.open(store.path).customer("ada")
    assert state.entities == {"number": "55555", "email": "ada@x.org"}
    assert state.intents == ("refund", "track")
    assert (state.pending, state.turns, state.open) == ("refund", 2, None)
    assert Store.open(store.path).customer("bob").turns == 0


def test_a_customer_has_one_open_question_and_sees_its_answer_once(store: Store) -> None:
    first = store.record(turn("Do you sell gnomes?", reason="nobody knows"))
    assert store.record(turn("Gnomes, I say!", reason="nobody knows")) == first
    assert store.record(turn("And elves?", customer="bob", reason="nobody knows")) != first
    waiting, other = store.queue()
    assert (waiting.message, waiting.reason, other.customer) == ("Do you sell gnomes?", "nobody knows", "bob")
    assert [turn["message"] for turn in waiting.transcript] == ["Do you sell gnomes?", "Gnomes, I say!"]
    assert first is not None
    answered, is_past_answer = store.answer(first, "We do.", "gnomes")
    assert (answered.answer, is_past_answer) == ("We do.", True)
    assert [past.reply for past in store.past_answers().values()] == ["We do."]
    with pytest.raises(UsageError, match="was answered: We do"):
        store.answer(first, "We do not.")
    with pytest.raises(UsageError, match="no question 99"):
        store.answer(99, "We do.")
    assert [hand_over.id for hand_over in store.queue()] == [other.id]
    (news,) = store.customer("ada").answered
    store.record(turn("Thanks", delivered=[news.id]))
    assert store.customer("ada").answered == ()


def test_a_failed_change_leaves_nothing(store: Store) -> None:
    with pytest.raises(TypeError):
        store.record(turn("Where is 48213?", sources=[{"a": object()}]))
    assert store.customer("ada") == Customer("ada")
    store.record(turn("Again"))
    assert store.customer("ada").entities == {}


def test_what_is_forgotten_is_not_in_the_file(store: Store) -> None:
    store.record(turn("My secret is xylophone 48213", reason="nobody knows"))
    store.answer(1, "The xylophone is yours.")
    store.record(turn("Hello", customer="bob"))
    store.built(
        {"templates": []}, [PastAnswer("Bring the xylophone", "Gladly.", "music", "ada"), PastAnswer("Hi", "Hi.")]
    )
    assert store.forget("ada") == {"turns": 1, "hand_overs": 1, "past_answers": 2}
    store.close()
    data = store.path.read_bytes()
    assert b"xylophone" not in data
    assert b"Hello" in data
    with pytest.raises(UsageError, match="Nothing is kept of a customer 'ada'"):
        Store.open(store.path).forget("ada")


def test_equal_past_answers_keep_their_numbers_when_dialogues_are_learned_again(store: Store) -> None:
    store.record(turn("Gnomes?", reason="nobody knows"))
    store.answer(1, "We do.")
    old, new = PastAnswer("Hi", "Hello.", "greeting"), PastAnswer("Bye", "Goodbye.", "parting")
    store.built({"a": 1}, [old])
    before = store.past_answers()
    store.built({"a": 2}, [new, old])
    after = store.past_answers()
    assert before.items() <= after.items()
    assert store.settings() == {"a": 2}
    store.built({"a": 2}, [new])
    assert [past.reply for past in store.past_answers().values()] == ["We do.", "Goodbye."]


WRITER = """
import sys
from pathlib import Path
from memspan.apps.support.store import Customer, Store, Turn
store = Store.open(Path(sys.argv[1]))
for number in range(10**6):
    store.record(Turn("ada", f"message {number}", "Yes.", "hand-over", reason="nobody knows"))
    print(number, flush=True)
"""


def test_what_was_confirmed_is_kept_once_after_a_kill(store: Store) -> None:
    command = [sys.executable, "-c", WRITER, str(store.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        confirmed = [int(process.stdout.readline()) for _ in range(20)]
        process.send_signal(signal.SIGKILL)
        confirmed += [int(line) for line in process.stdout.read().split("\n")[:-1]]
    kept = [turn["message"] for turn in store.turns("ada", last=10**6)]
    assert kept[: len(confirmed)] == [f"message {number}" for number in confirmed]
    assert len(kept) <= len(confirmed) + 1  # one may have been kept without being confirmed
    assert len(store.queue()) == 1


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no support folder"):
        Store.open(tmp_path / "customers.sqlite")
    (tmp_path / "notes.sqlite").write_text("These are notes. " * 100, "utf-8")
    with pytest.raises(DamagedFolder, match="cannot be opened"):
        Store.open(tmp_path / "notes.sqlite")
    newer = tmp_path / "newer.sqlite"
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UsageError, match="version 99, made by a newer memspan"):
        Store.open(newer)
