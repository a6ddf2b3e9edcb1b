"""Recall in dialogues: the turns of meetings and of conversations that bear on a question, among many of them in one memory.

    python -m benchmarks.dialogue [--data qmsum|multiwoz|crosswoz] [--half test|choosing] [--dialogues N] [--questions N]

A dialogue is a chat file (JSON Lines with "speaker" and "text"), read as memspan reads such files; all are in one memory.
The validation part of each data set is the half for choosing, the test part the half for testing.

- qmsum: meetings with their specific questions. Relevant are the turns of a question's spans. A question does not say which
  meeting it is about, and turns of others count as wrong.
- multiwoz: conversations in which a clerk books hotels, tables, trains and taxis. A question is made from the annotation of
  a booking: it gives what is booked, where, for how many people and on which day, and wants the reference number, or the car
  of a taxi. It is kept if no other dialogue of the heap has a booking of the same description, and if the answer stands in
  the turns of one dialogue only. Relevant are the turns of that dialogue which hold the answer.
- crosswoz: Chinese conversations about restaurants, hotels and sights. A question is made where the user requests one fact
  (address, telephone, opening hours ...) about a place whose name is known from the state of the user, and the next turn
  informs of it: "{name}的{fact}是什么？". It is kept if only one dialogue of the heap informs of that fact about that name,
  and if the value stands in the turn. Relevant are the turns that hold the value. They seldom name the place.

Rankers, all in one run: memspan, without and (`--rerank`) with the likelihood of the question; BM25 (with all words of the
question, and without question words, as memspan asks), MiniLM, and MiniLM + BM25 (without question words). Each of the
others ranks three kinds of units: memspan's own passages with their context lines, single turns, and windows: consecutive
turns of one dialogue of up to 256 tokens together by the average length of a token, as long as memspan's passages may
become. Passages compare the rankings alone; windows are longer than passages on average, so that eight of them hold more
turns ("turns each"). A turn has the rank of the first passage or window that overlaps it by half of the shorter of the two.
"turn" is the share of questions with a relevant turn among the first 1 and 8, "dialogue" the share with any turn of the right
dialogue there; intervals are 95 % by Wilson.
"""

import argparse
import json
import random
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.recall import bm25, minilm, ordered, standard
from benchmarks.report import DATA, interval, needs

K = (1, 8)
SEED = 7
SIZES = {"qmsum": 12, "multiwoz": 150, "crosswoz": 60}  # dialogues


@dataclass(frozen=True)
class Question:
    text: str
    dialogue: int
    turns: frozenset[int]
    """The relevant turns, counted over all dialogues."""


Turn = tuple[str, str]  # who speaks, and what they say


def load(name: str, test: bool, size: int, questions: int) -> tuple[list[list[Turn]], list[Question]]:
    """Dialogues, and at most so many questions about them."""
    dialogues, found = {"qmsum": _qmsum, "multiwoz": _multiwoz, "crosswoz": _crosswoz}[name](test, size)
    drawn = found if len(found) <= questions else random.Random(SEED).sample(found, questions)
    return dialogues, drawn


def _numbered(dialogues: Sequence[Sequence[Turn]]) -> list[int]:
    """The number of the first turn of each dialogue."""
    return [0, *np.cumsum([len(turns) for turns in dialogues]).tolist()]


# --- meetings ---------------------------------------------------------------------------------------------------------


def _qmsum(test: bool, size: int) -> tuple[list[list[Turn]], list[Question]]:
    path = needs(DATA / "qmsum" / ("ALL_test.jsonl" if test else "ALL_val.jsonl"))
    meetings = [json.loads(line) for line in path.read_text("utf-8").splitlines()][:size]
    dialogues = [
        [(turn["speaker"], turn["content"]) for turn in meeting["meeting_transcripts"]] for meeting in meetings
    ]
    firsts, questions = _numbered(dialogues), []
    for number, meeting in enumerate(meetings):
        last = len(dialogues[number]) - 1
        for item in meeting["specific_query_list"]:
            spans = [(int(start), int(end)) for start, end in item["relevant_text_span"]]
            turns = {firsts[number] + turn for start, end in spans for turn in range(start, min(end, last) + 1)}
            if turns:
                questions.append(Question(item["query"], number, frozenset(turns)))
    return dialogues, questions


# --- bookings ---------------------------------------------------------------------------------------------------------

_WANTED = {  # domain -> the annotations that describe a booking, and the question
    "hotel": (("name", "people", "day", "stay"), "the room at {name} for {people} people and {stay} nights from {day}"),
    "restaurant": (("name", "people", "day", "time"), "the table at {name} for {people} people on {day} at {time}"),
    "train": (("departure", "destination", "day", "people"), "the train from {departure} to {destination} on {day}, {people} tickets"),
    "taxi": (("departure", "destination"), "the taxi from {departure} to {destination}"),
}  # fmt: skip


def _woz(name: str, test: bool, size: int) -> list[dict[str, Any]]:
    path = needs(DATA / name / ("test.json.zip" if test else "val.json.zip"))
    with zipfile.ZipFile(path) as archive:
        dialogues = list(json.loads(archive.read(archive.namelist()[0])).values())
    random.Random(SEED).shuffle(dialogues)
    return dialogues[:size]


def _multiwoz(test: bool, size: int) -> tuple[list[list[Turn]], list[Question]]:
    raw = _woz("multiwoz21", test, size)
    dialogues = [
        [("Clerk" if number % 2 else "Customer", turn["text"]) for number, turn in enumerate(item["log"])]
        for item in raw
    ]
    bookings = [(number, *booking) for number, item in enumerate(raw) for booking in set(_bookings(item))]
    often = Counter(description for _, description, _ in bookings)
    return dialogues, _kept(
        dialogues, [booking for booking in bookings if often[booking[1]] == 1], "What is the {} of {}?"
    )


def _bookings(item: dict[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """What was wanted and its description, with the answer, of each booking of a dialogue."""
    state = item["log"][-1]["metadata"] or item["log"][-2]["metadata"]
    for domain, (keys, description) in _WANTED.items():
        facts = {**state[domain]["semi"], **state[domain]["book"]}
        values = {key: facts.get(key, "") for key in keys}
        for booked in state[domain]["book"]["booked"]:
            answer = booked.get("type" if domain == "taxi" else "reference", "")
            if answer and all(value not in ("", "not mentioned", "dontcare") for value in values.values()):
                kind = "car" if domain == "taxi" else "reference number"
                yield (kind, description.format(**values)), answer


def _kept(dialogues: list[list[Turn]], facts: list[Any], form: str) -> list[Question]:
    """The questions whose answer stands in the turns of their own dialogue only."""
    firsts, holding = _numbered(dialogues), defaultdict(set)
    for answer in {answer for _, _, answer in facts}:
        for number, turns in enumerate(dialogues):
            for turn, (_, text) in enumerate(turns):
                if answer.casefold() in text.casefold():
                    holding[answer].add((number, firsts[number] + turn))
    questions = []
    for number, description, answer in facts:
        if {dialogue for dialogue, _ in holding[answer]} == {number}:
            turns = frozenset(turn for _, turn in holding[answer])
            questions.append(Question(form.format(*description), number, turns))
    return questions


# --- places -----------------------------------------------------------------------------------------------------------


def _crosswoz(test: bool, size: int) -> tuple[list[list[Turn]], list[Question]]:
    raw = _woz("crosswoz_zh", test, size)
    dialogues = [
        [("客服" if turn["role"] == "sys" else "用户", turn["content"]) for turn in item["messages"]] for item in raw
    ]
    facts = [(number, *fact) for number, item in enumerate(raw) for fact in _facts(item["messages"])]
    firsts, of_fact = _numbered(dialogues), defaultdict(set)
    for number, turn, fact in facts:
        of_fact[fact].add((number, firsts[number] + turn))
    questions = [
        Question(f"{name}的{slot}是什么？", next(iter(found))[0], frozenset(turn for _, turn in found))
        for (name, slot), found in of_fact.items()
        if len({number for number, _ in found}) == 1
    ]
    return dialogues, questions


def _facts(messages: list[dict[str, Any]]) -> Iterator[tuple[int, tuple[str, str]]]:
    """The number of each turn that gives a requested fact about a named place, with the name and the fact."""
    for number, (request, reply) in enumerate(pairwise(messages), start=1):
        for act, domain, slot, _ in request["dialog_act"]:
            if act != "Request" or slot in ("名称", "none") or "设施" in slot:
                continue
            ids = {id_ for id_, of, key, value, _ in request["user_state"] if (of, key) == (domain, slot)}
            names = {
                value for id_, of, key, value, _ in request["user_state"]
                if id_ in ids and (of, key) == (domain, "名称") and isinstance(value, str) and value and "出现在" not in value
            }  # fmt: skip
            values = [
                value for kind, of, key, value in reply["dialog_act"] if (kind, of, key) == ("Inform", domain, slot)
            ]
            if len(names) == 1 and values and values[0] in reply["content"]:
                yield number, (names.pop(), slot)


# --- ranking ----------------------------------------------------------------------------------------------------------


def read(lm: Any, dialogues: Sequence[Sequence[Turn]], folder: Path) -> tuple[Any, list[list[int]], list[str]]:
    """The memory of the dialogues, the turns that each of its passages holds, and the texts of the turns."""
    from memspan.data.documents import open_documents

    memory, held, texts = lm.new_memory(), list[list[int]](), list[str]()
    for number, turns in enumerate(dialogues):
        path = folder / f"dialogue-{number:03}.jsonl"
        lines = (json.dumps({"speaker": speaker, "text": text}, ensure_ascii=False) for speaker, text in turns)
        path.write_text("\n".join(lines), "utf-8")
        (document,) = open_documents([path])
        text = "".join(document.chunks())
        lm.read(document, memory)
        first, position, starts, lengths = len(texts), 0, [], []
        for speaker, said in turns:
            turn = f"{' '.join(speaker.split())}: {said}"
            texts.append(turn)
            found = text.find(turn, position) if said.strip() else -1
            starts.append(found if found >= 0 else position)
            lengths.append(len(turn) if found >= 0 else 0)
            position = starts[-1] + lengths[-1]
        begins, sizes = np.array(starts), np.array(lengths)
        for passage in map(memory.passage, memory.passages_of(document.source)):
            overlap = np.minimum(passage.end, begins + sizes) - np.maximum(passage.start, begins)
            shorter = np.minimum(sizes, len(passage.text.strip()))
            held.append((first + np.flatnonzero((overlap > 0) & (2 * overlap >= shorter))).tolist())
    return memory, held, texts


def windows_of(texts: Sequence[str], firsts: Sequence[int], limit: float) -> list[list[int]]:
    """Consecutive turns of one dialogue, up to `limit` characters together."""
    windows: list[list[int]] = []
    begin, length = set(firsts), 0
    for turn, text in enumerate(texts):
        length += len(text) + 2
        if turn in begin or length > limit:
            windows.append([])
            length = len(text) + 2
        windows[-1].append(turn)
    return windows


def figures(
    name: str, rankings: Sequence[Sequence[int]], held: Sequence[Sequence[int]], questions: Sequence[Question], of: Sequence[int]
) -> dict[str, str]:  # fmt: skip
    """The shares of questions with a relevant turn, and with a turn of the right dialogue, among the first."""
    row = {"ranker": name, "turns each": f"{np.mean([len(turns) for turns in held]):.1f}"}
    for k in K:
        found = [{turn for number in ranking[:k] for turn in held[number]} for ranking in rankings]
        turn_hits = sum(bool(turns & item.turns) for turns, item in zip(found, questions, strict=True))
        hits = sum(item.dialogue in {of[t] for t in turns} for turns, item in zip(found, questions, strict=True))
        row |= {f"turn@{k}": _share(turn_hits, len(questions)), f"dialogue@{k}": _share(hits, len(questions))}
    return row


def _share(hits: int, count: int) -> str:
    low, high = interval(hits, count)
    return f"{hits / count:.3f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="qmsum", choices=sorted(SIZES))
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    parser.add_argument("--dialogues", type=int, help="of the heap; 12 meetings, 150 of multiwoz, 60 of crosswoz")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument(
        "--rerank", action="store_true", help="also with the likelihood of the question, which takes long"
    )
    options = parser.parse_args()

    import memspan
    from memspan.assistant.retriever import RERANKED
    from memspan.memory.context import with_context
    from memspan.memory.index.bm25 import without_question_words
    from memspan.memory.index.encoder import PASSAGE

    size = options.dialogues or SIZES[options.data]
    dialogues, questions = load(options.data, options.half == "test", size, options.questions)
    asked = [item.text for item in questions]
    of = [number for number, turns in enumerate(dialogues) for _ in turns]
    lm = memspan.load_model("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        memory, held, texts = read(lm, dialogues, Path(folder))
    limit = PASSAGE * sum(map(len, texts)) / memory.tokens
    windows, single = windows_of(texts, _numbered(dialogues)[:-1], limit), [[turn] for turn in range(len(texts))]
    size_of = {"tokens": memory.tokens, "dialogues": len(dialogues), "turns": len(texts), "passages": len(memory)}
    size_of |= {"windows": len(windows), "questions": len(questions)}
    print(", ".join(f"{count} {noun}" for noun, count in size_of.items()))

    def searched(rerank: int) -> list[list[int]]:
        return [[found.number for found in lm.search(memory, text, top=max(K), rerank=rerank)] for text in asked]

    rows = [figures("memspan, not reranked", searched(0), held, questions, of)]
    if options.rerank:
        rows.append(figures("memspan", searched(RERANKED), held, questions, of))
    telling = [without_question_words(text) for text in asked]
    of_turns = {"turns": single, "windows": windows}
    units = {
        name: (groups, ["\n\n".join(texts[turn] for turn in group) for group in groups])
        for name, groups in of_turns.items()
    }
    units = {"passages": (held, [with_context(memory.passage(number)) for number in range(len(memory))]), **units}
    for unit, (groups, contents) in units.items():
        words, meaning = bm25(contents, telling), minilm(contents, asked)
        for name, scores in (
            ("BM25", bm25(contents, asked)),
            ("BM25, no question words", words),
            ("MiniLM", meaning),
            ("MiniLM + BM25", standard(words) + standard(meaning)),
        ):
            rows.append(figures(f"{name}, {unit}", ordered(scores), groups, questions, of))
    report.table(rows)
    unusual = ["choosing"] * (options.half != "test") + [str(size)] * (size != SIZES[options.data])
    report.save("-".join(["dialogue", options.data, *unusual]), {**size_of, "rankers": rows}, seeds=[SEED])


if __name__ == "__main__":
    main()
