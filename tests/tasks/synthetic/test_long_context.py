"""Hidden sentences against readers that know the rule: they stand in a text of the right length, and answer the questions."""

import re
from collections import Counter
from pathlib import Path

import pytest

from memspan.errors import UsageError
from memspan.tasks import build
from memspan.tasks.samples import word_lists
from memspan.tasks.synthetic.long_context import LongContext
from memspan.tasks.synthetic.needles import HOPS, KINDS

EVERY = [*KINDS, "frequent_words"]
# Words of grammar, which a question may share with the fact that answers it.
GRAMMAR = {"a", "an", "the", "of", "in", "on", "at", "to", "for", "from", "and", "is", "was", "has", "have", "who"}


def make(kind: str, **settings: object) -> LongContext:
    task = build("long_context", kind=kind, **{"texts": 6, **settings})
    assert isinstance(task, LongContext)
    return task


@pytest.mark.parametrize("kind", EVERY)
@pytest.mark.parametrize("words", [200, 2000])
def test_texts_have_their_length_and_all_answers(kind: str, words: int) -> None:
    task = make(kind, words=words)
    for record in (*task.records, *task.held_out_records):
        assert 0.95 * words <= len(record["context"].split()) <= 1.3 * words + 5
        assert all(re.search(rf"\b{answer}\b", record["context"]) for answer in record["answers"])
        assert not set(record["answers"]) & set(record["question"].split())
    assert len({record["context"] for record in task.records}) == 6
    again = make(kind, words=words)
    assert (again.records, again.held_out_records) == (task.records, task.held_out_records)
    assert {record["context"] for record in task.records}.isdisjoint(
        record["context"] for record in task.held_out_records
    )


def test_a_key_has_the_value_that_its_sentence_gives() -> None:
    for kind in ("multi_key", "multi_query", "multi_value"):
        task = make(kind, needles=5)
        assert len(task.records) == 6 * (5 if kind == "multi_key" else 1)
        for record in task.records:
            facts = re.findall(r"codes? of the (\w+ \w+) is (\d{5})\.", record["context"])
            keys = re.findall(r"the (\w+ \w+)(?=[,?]| and)", record["question"].partition(" of ")[2])
            assert len(facts) == 5
            assert sorted(record["answers"]) == sorted(code for key, code in facts if key in keys)
            assert len(record["answers"]) == (1 if kind == "multi_key" else 5)


def test_variables_are_followed_through_all_assignments() -> None:
    for record in make("variable_tracking", needles=3).records:
        values: dict[str, str] = {}
        for name, number, other in re.findall(
            r"Variable (\w+) is set to (?:the number (\d+)|the value of variable (\w+))\.", record["context"]
        ):
            values[name] = number or values[other]  # set before it is read
        number = re.findall(r"\d{5}", record["question"])[0]
        assert sorted(record["answers"]) == sorted(name for name, value in values.items() if value == number)
        assert len(record["answers"]) == HOPS + 1
        assert len(values) == 3 * (HOPS + 1)


@pytest.mark.parametrize("words", [20, 1000])
def test_the_most_frequent_words_are_certain(words: int) -> None:
    for record in make("frequent_words", words=words).records:
        counts = Counter(record["context"].split()).most_common(4)
        assert [word for word, _ in counts[:3]] == record["answers"]
        assert counts[2][1] > counts[3][1]


def test_a_latent_question_shares_no_word_with_its_fact() -> None:
    associations = word_lists("long_context")["associations"]
    for fact, question in associations:
        stems = [
            {word[:4] for word in re.findall(r"[a-z]+", text.lower()) if word not in GRAMMAR}
            for text in (fact, question)
        ]
        assert not stems[0] & stems[1], (fact, question)
    assert len({question for _, question in associations}) == len(associations)
    latent, literal = make("latent"), make("literal")
    answer = {question: fact for fact, question in associations}
    for record, same in zip(latent.records, literal.records, strict=True):
        fact = answer[record["question"].removeprefix("Who ").rstrip("?")]
        assert f"{record['answers'][0]} {fact}." in record["context"]
        assert same["question"] == f"Who {fact}?"
        assert (record["context"], record["answers"]) == (same["context"], same["answers"])
    held_out = {record["question"] for record in make("latent", texts=40).held_out_records}
    assert held_out.isdisjoint(record["question"] for record in make("latent", texts=40).records)
    assert len(held_out) == len(associations) // 2


def test_needles_stand_anywhere() -> None:
    depths = []
    for record in make("multi_key", texts=100).records:
        depths.append(record["context"].index(record["answers"][0]) / len(record["context"]))
    counts = Counter(int(depth * 5) for depth in depths)
    assert all(50 < counts[fifth] < 110 for fifth in range(5)), counts  # 80 of 400 in each


def test_they_are_hidden_in_texts_of_the_users(tmp_path: Path) -> None:
    book, other = tmp_path / "book.txt", tmp_path / "other.txt"
    book.write_text("It was late.\nNobody\nspoke.\n\nA dog barked! " * 20, "utf-8")
    other.write_text("Snow fell. It fell all night.", "utf-8")
    task = make("multi_key", data=str(book), test=str(other), words=100)
    context = task.records[0]["context"]
    assert re.search(r"\nA dog barked! ", context)
    assert "Nobody spoke." in context
    assert "Snow fell." in task.held_out_records[0]["context"]
    assert "late" not in task.held_out_records[0]["context"]
    with pytest.raises(UsageError, match="cannot be read"):
        make("multi_key", data=str(tmp_path / "none.txt"))


def test_recall_is_the_share_of_the_answers_that_are_named() -> None:
    task = make("multi_value")
    records = [{"answers": ["12345", "54321"]}, {"answers": ["ABC"]}]
    scores = task.compute_metrics(records, ["The codes are 54321 and 123456.", "abc, I think."])
    assert scores == {"recall": 0.75, "all found": 0.5}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kind": "single"}, "kind must be one of multi_key, .*frequent_words, got kind=single"),
        ({"words": 19}, "words must be at least 20"),
        ({"needles": 13}, "needles from 1 to 12"),
        ({"texts": 1}, "texts at least 2"),
    ],
)
def test_what_cannot_be_is_refused(settings: dict, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        build("long_context", **settings)
