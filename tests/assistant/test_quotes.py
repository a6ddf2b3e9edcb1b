"""Quotes are the source's own words, and the sentence that bears on the question."""

import random

import numpy as np
import pytest
from numpy.typing import NDArray

import memspan
from memspan import LanguageModel, Memory, load_memory
from memspan.assistant import quotes, second_round
from memspan.assistant.answer_kinds import asked_kind, holds
from memspan.assistant.quotes import Evidence, Quote
from memspan.assistant.rare_words import RareWords
from memspan.assistant.surroundings import surrounded
from memspan.data.chunking import sentence_spans
from memspan.memory import Contents
from tests.tiny import logbook

FILM = "It rained at noon. The Silent Bell is a film by the director Ingrid Halvorsen of Bergen. The bell was lent by a church."
PERSON = "Fog lay over the sea. Ingrid Halvorsen was born in a cold country, and left it. She kept a goat."
TWO_ROUNDS = "In which country was the director of the film The Silent Bell born?"


def quoted(lm: LanguageModel, memory: Contents, question: str, answer: str = "") -> Quote | None:
    found = lm.search(memory, question, rerank=0)
    return Evidence(memory.view(), question, found, lm.retriever).quote(answer)


PARTS = [
    "The light",
    " burns. ",
    "Dr. Gale",
    "\n",
    "\n\n",
    "| a | b |",
    "灯塔着火了。",
    "谁？",
    "  ",
    "\u00e9",
    "e\u0301!",
    "# Day",
    "3, 4",
]


@pytest.fixture
def one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes hold the sentence that was chosen alone."""
    monkeypatch.setattr(quotes, "LONGEST_PAIR", 0)


def test_a_quote_is_a_span_of_its_source(lm: LanguageModel) -> None:
    """For random texts: `source text[start:end]` is the quote, within one passage."""
    rng = random.Random(5)
    for trial in range(12):
        texts = {f"text-{n}": "".join(rng.choices(PARTS, k=rng.randrange(3, 60))) + "The light." for n in range(2)}
        memory = lm.new_memory()
        for name, text in texts.items():
            lm.read(text, memory, source=name)
        quote = quoted(lm, memory, "Where did the light of Dr. Gale burn? 灯塔", rng.choice(["", "Gale", "火"]))
        assert quote is not None, trial
        assert quote.text == texts[quote.source][quote.start : quote.end]
        assert quote.text == quote.text.strip() != ""
        passage = memory.passage(quote.passage)
        assert (passage.source, passage.start <= quote.start < quote.end <= passage.end) == (quote.source, True)


def test_no_sentence_no_quote(lm: LanguageModel) -> None:
    memory = lm.read("   \n")
    assert quoted(lm, memory, "Who?") is None


@pytest.mark.usefixtures("one_sentence")
def test_the_sentence_with_the_words_of_the_question_is_quoted(lm: LanguageModel) -> None:
    sentences = [f"Day {day} brought fog, rain and gulls to the gallery." for day in range(9)]
    sentences.insert(5, "The zinc trunk stands beneath the stair.")
    memory = lm.read(" ".join(sentences))
    quote = quoted(lm, memory, "Where does the zinc trunk stand?")
    assert quote is not None
    assert quote.text == sentences[5]
    assert quote.coverage == 1.0


FACTS = "The keeper was Olaf Berg. The keeper was away. The keeper left in 1893. The keeper had two boats."


@pytest.mark.usefixtures("one_sentence")
@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("Who was the keeper?", "The keeper was Olaf Berg."),
        ("When was the keeper gone?", "The keeper left in 1893."),
        ("How many had the keeper?", "The keeper had two boats."),
    ],
)
def test_the_kind_of_thing_that_is_asked_for_decides_between_equals(
    lm: LanguageModel, question: str, right: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quotes.WEIGHTS, "heads", 0.0)  # of random weights
    monkeypatch.setitem(quotes.WEIGHTS, "kind", 100.0)
    quote = quoted(lm, lm.read(FACTS), question)
    assert quote is not None
    assert quote.text == right


@pytest.mark.usefixtures("one_sentence")
def test_the_words_of_the_answer_decide_between_equals(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(quotes.WEIGHTS, "heads", 0.0)
    memory = lm.read("The keeper likes tea. The keeper likes herring. The keeper likes fog.")
    quote = quoted(lm, memory, "What does the keeper like?", "He likes herrings.")
    assert quote is not None
    assert quote.text == "The keeper likes herring."


@pytest.mark.usefixtures("one_sentence")
def test_a_sentence_may_go_on_with_the_one_before(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in quotes.WEIGHTS:
        monkeypatch.setitem(quotes.WEIGHTS, name, float(name == "previous_question"))
    memory = lm.read("Fog came. The zinc trunk was heavy. It stood in the boathouse. Rain came.")
    quote = quoted(lm, memory, "Where was the zinc trunk?")
    assert quote is not None
    assert quote.text == "It stood in the boathouse."


def test_attention_is_summed_over_the_tokens_of_the_sentence(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in quotes.WEIGHTS:
        monkeypatch.setitem(quotes.WEIGHTS, name, float(name == "heads"))
    memory = lm.read("Fog came at noon. The trunk was heavy. Rain came at night.")

    def attend(view: Contents, question: str, numbers: list[int]) -> list[NDArray[np.float32]]:
        size = len(view.ids(0))
        values = np.zeros(size, np.float32)
        values[-1] = 1.0
        return [values for _ in numbers]

    monkeypatch.setattr(lm.retriever, "token_scores", attend)
    quote = quoted(lm, memory, "What?")
    assert quote is not None
    assert quote.text == "Rain came at night."


def test_ask_quotes(lm: LanguageModel) -> None:
    memory = lm.read(f"{logbook()[:3000]}\n\nThe zinc trunk stands beneath the stair.", source="log.txt")
    answer = lm.ask(memory, "Where does the zinc trunk stand?")
    assert answer.quote is not None
    assert answer.quote.text == "The zinc trunk stands beneath the stair."
    assert answer.quote.location.line == logbook()[:3000].count("\n") + 3
    record = answer.to_dict()["quote"]
    assert record["text"] == answer.quote.text
    assert record["location"]["line"] == answer.quote.location.line


def test_rare_words_weigh_more_and_forms_of_a_word_are_one_word(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    for number in range(6):
        lm.read(f"The keeper went {number} miles.", memory, source=str(number))
    words = RareWords.of(memory.view(), "How many keepers went to Trondheim?")
    weights = dict(zip(words.words, words.weights, strict=True))
    assert weights["trondheim"] > weights["keepers"] > 0
    assert "many" not in weights
    assert words.coverage(["To Trondheim", "the keeper went", "fog"])[[0, 1, 2]].tolist() == pytest.approx(
        [
            (weights["trondheim"] + weights["to"]) / sum(weights.values()),
            (weights["keepers"] + weights["went"]) / sum(weights.values()),
            0.0,
        ]
    )
    assert RareWords.of(memory.view(), "went", without=["went"]).coverage(["went"]).tolist() == [0.0]


def test_kinds() -> None:
    assert [
        asked_kind(q) for q in ("When was it?", "how many days?", "Who?", "Why?", "哪年？", "多少人？", "谁？")
    ] == [
        "date",
        "number",
        "name",
        None,
        "date",
        "number",
        "name",
    ]
    assert holds("number", "Three men", "") == 1.0
    assert holds("date", "in May", "") == holds("date", "1997年", "") == 1.0
    assert holds("date", "in 12 boats", "") == 0.0
    assert holds("name", "It was Olaf of Bergen.", "Who?") == 1.0
    assert holds("name", "It was Olaf.", "Was it Olaf?") == 0.0
    assert holds("name", "It was him.", "Who?") == holds(None, "Olaf in 1997", "Why?") == 0.0


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!\n\n# Three\nFour", ["One.", "Two!", "# Three\nFour"]),
        ("name,city\nAda,Oslo\nBo,Bergen", ["name,city", "Ada,Oslo", "Bo,Bergen"]),
        ("Ada: I left. Yes.\nBo: Why?", ["Ada: I left.", "Yes.", "Bo: Why?"]),
        ("- tea\n- herring\n- fog", ["- tea", "- herring", "- fog"]),
        ("灯塔着火了。谁？ 我们", ["灯塔着火了。", "谁？", "我们"]),
        ("Fog came, and\nthe light, which\nburned.", ["Fog came, and\nthe light, which\nburned."]),
        ("  \n ", []),
    ],
)
def test_what_a_reader_would_quote(text: str, sentences: list[str]) -> None:
    assert [text[slice(*span)] for span in sentence_spans(text)] == sentences


def test_sentences_hold_all_but_white_space() -> None:
    rng = random.Random(3)
    for _ in range(200):
        text = "".join(rng.choices(PARTS, k=rng.randrange(30)))
        spans = sentence_spans(text)
        assert "".join("".join(text[a:b].split()) for a, b in spans) == "".join(text.split())
        assert all(text[a:b].strip() == text[a:b] != "" for a, b in spans)
        assert spans == sorted(spans)


def test_a_quote_survives_saving(lm: LanguageModel, tmp_path: object) -> None:
    memory = lm.read("Fog came. The zinc trunk stands beneath the stair.", source="log.txt")
    before = quoted(lm, memory, "Where does the zinc trunk stand?")
    memory.save(f"{tmp_path}/memory")
    assert quoted(lm, load_memory(f"{tmp_path}/memory"), "Where does the zinc trunk stand?") == before


def test_surroundings_of_a_passage_do_not_move_its_quote(lm: LanguageModel) -> None:
    text = f"{logbook()[:4000]}\n\nThe zinc trunk stands beneath the stair.\n\n{logbook(seed=8)[:4000]}"
    memory = lm.read(text, source="log.txt")
    found = lm.search(memory, "Where does the zinc trunk stand?", rerank=0)
    alone, wider = (
        Evidence(memory.view(), "Where does the zinc trunk stand?", passages, lm.retriever)
        for passages in (found, surrounded(memory.view(), found[:1], 2) + found[1:])
    )
    assert alone.quote() == wider.quote()
    assert alone.features("")["heads"].tolist() == wider.features("")["heads"].tolist()


def test_a_short_sentence_is_quoted_with_the_next(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Fog came. So the zinc trunk was broken. It was Abney who broke it. Rain came."
    memory = lm.read(text)
    quote = quoted(lm, memory, "Was the zinc trunk broken?")
    assert quote is not None
    assert quote.text == "So the zinc trunk was broken. It was Abney who broke it." == text[quote.start : quote.end]
    monkeypatch.setattr(quotes, "LONGEST_PAIR", len(quote.text) - 1)
    assert quoted(lm, memory, "Was the zinc trunk broken?").text == "So the zinc trunk was broken."


def test_the_meaning_of_a_sentence_and_of_the_one_before_count(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch, one_sentence: None
) -> None:
    memory = lm.read("Fog came. The luggage was heavy. It stood in the boathouse. Rain came.")
    question = "Which case weighed a lot?"

    def quote(*cosines: float) -> str:
        monkeypatch.setattr(Evidence, "sentence_meaning", np.array(cosines, np.float32))
        return quoted(lm, memory, question).text

    assert quote(0.1, 0.6, 0.1, 0.1) == "The luggage was heavy."
    assert quote(0.1, 0.1, 0.1, 0.6) == "Rain came."
    assert quote(0.1, 0.5, 0.45, 0.1) == "It stood in the boathouse."


@pytest.fixture
def film(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """A memory whose texts answer `TWO_ROUNDS` together; searched by words, as the attention of a random model is random."""
    monkeypatch.setattr(lm.retriever, "rankers", {"words": lm.retriever.rankers["words"]})
    monkeypatch.setattr(second_round, "LEAST_LACKING", 0.5)  # few words are rare in so small a memory
    monkeypatch.setattr(second_round, "SHARE", 0.95)
    monkeypatch.setitem(quotes.WEIGHTS, "heads", 0.0)
    memory = lm.new_memory()
    others = [f"A film was born in the country of the {animal}." for animal in ("goat", "gull", "cat")]
    for number, text in enumerate([FILM, PERSON, *others, *(f"Fog number {number}." for number in range(12))]):
        lm.read(text, memory, source=f"text-{number}")
    return memory


@pytest.mark.usefixtures("one_sentence")
def test_a_question_of_two_rounds_has_a_quote_from_the_passage_of_each(lm: LanguageModel, film: Memory) -> None:
    answer = lm.ask(film, TWO_ROUNDS, rerank=0, sampling=memspan.Sampling(max_new_tokens=2))
    texts = {f"text-{number}": text for number, text in enumerate((FILM, PERSON))}
    assert [quote.text for quote in answer.quotes] == [FILM.split(". ")[1] + ".", PERSON.split(". ")[1] + "."]
    for quote in answer.quotes:
        assert texts[quote.source][quote.start : quote.end] == quote.text
        passage = film.passage(quote.passage)
        assert (passage.source, passage.start <= quote.start < quote.end <= passage.end) == (quote.source, True)
        assert quote.location.line == 1
    assert answer.quote == answer.quotes[0]
    record = answer.to_dict()
    assert record["quote"] == record["quotes"][0]
    assert [quote["text"] for quote in record["quotes"]] == [quote.text for quote in answer.quotes]
    assert all(quote.text in answer._repr_html_() for quote in answer.quotes)


def test_where_the_first_quote_is_of_the_second_round_the_other_is_of_the_best_passage(
    lm: LanguageModel, film: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(quotes.WEIGHTS, "answer", 100.0)
    found = lm.search(film, TWO_ROUNDS, rerank=0)
    first, second = Evidence(film.view(), TWO_ROUNDS, found, lm.retriever).quotes("She kept one.")
    assert (first.source, second.source) == ("text-1", "text-0")
    assert "kept" in first.text


def test_after_one_round_there_is_one_quote(lm: LanguageModel, film: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    question = "Who is the director of the film The Silent Bell?"
    evidence = Evidence(film.view(), question, lm.search(film, question, rerank=0), lm.retriever)
    assert evidence.quotes() == (evidence.quote(),)
    found = lm.search(film, TWO_ROUNDS, rerank=0, filter=memspan.Filter("text-0"))
    alone = Evidence(film.view(), TWO_ROUNDS, found, lm.retriever)  # the second round found nothing else
    assert alone.quotes() == (alone.quote(),)
    assert Evidence(film.view(), TWO_ROUNDS, (), lm.retriever).quotes() == ()
