"""Retrieval: what is found, how it is ranked and reranked, and what fits into a budget."""

import numpy as np
import pytest
import torch

from memspan import LanguageModel, RetrievedPassage
from memspan.assistant.prompt_choice import within_budget
from memspan.errors import UsageError
from memspan.memory import Filter
from tests.tiny import logbook

FACT = "The zinc trunk of Commander Elspeth stands beneath the third stair."


def test_search_finds_the_words_and_says_where(lm: LanguageModel) -> None:
    text = logbook()[:12000]
    cut = text.index("\n\n", 6000)
    memory = lm.read(f"{text[:cut]}\n\n{FACT}{text[cut:]}", source="book")
    found = lm.search(memory, "Where does the zinc trunk of Commander Elspeth stand?", rerank=0)
    assert FACT in found[0].text
    assert found[0].source == "book"
    assert found[0].start <= cut + 2 < found[0].end
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len(lm.search(memory, "zinc", top=3)) == 3
    only = lm.search(memory, "zinc", among=lambda passage: passage.start < 2000)
    assert only
    assert all(one.start < 2000 for one in only)


def test_the_gain_is_the_likelihood_of_the_question(lm: LanguageModel) -> None:
    """Naive: each text by itself, unpadded."""
    question = "Who broke the lens?"
    texts = [
        f"A text{' that goes on' * (words * 7 % 10)}." for words in range(10)
    ]  # of several lengths, several batches

    def mean(text: str) -> float:
        lead = lm.tokenizer(f"{text}\n\nQuestion answered by this text:")["input_ids"]
        asked = lm.tokenizer(" " + question)["input_ids"]
        logits = lm.causal_lm(torch.tensor([lead + asked])).logits[0, len(lead) - 1 : -1].log_softmax(-1)
        return float(logits[torch.arange(len(asked)), asked].mean())

    with torch.inference_mode():
        expected = [mean(text) - mean("") for text in texts]
    assert lm.retriever.likelihood_gains(question, texts) == pytest.approx(expected, abs=1e-4)


def test_likelihood_orders_what_is_within_reach(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    gains = {"1": 0.2, "2": 0.5, "3": -1.0, "4": 9.0}
    monkeypatch.setattr(lm.retriever, "likelihood_gains", lambda _, texts: [gains.get(text, 0.0) for text in texts])
    scores = [10.0, 9.9, 9.1, 9.0, 1.0]
    found = [RetrievedPassage("a", place, place + 1, score, str(place), 1, place) for place, score in enumerate(scores)]
    order = lm.retriever.rerank("Why?", found, 16)
    assert [one.number for one in order] == [2, 1, 0, 3, 4]  # the last is out of reach
    assert [one.score for one in order] == pytest.approx([10.6, 10.5, 10.0, 6.0, 1.0])
    assert [one.reranked for one in order[:4]] == pytest.approx([1.5, 0.6, 0.0, -3.0])
    assert order[4].reranked is None
    assert [one.number for one in lm.retriever.rerank("Why?", found, 2)] == [1, 0, 2, 3, 4]


def test_budget_counts_tokens_but_always_lets_the_best_in() -> None:
    found = [
        RetrievedPassage("s", 0, 1, 0.0, f"t{number}", tokens, number)
        for number, tokens in enumerate([300, 100, 500, 50])
    ]
    assert [one.number for one in within_budget(found, 100)] == [0]
    assert [one.number for one in within_budget(found, 450)] == [0, 1, 3]


def test_a_passage_far_behind_the_best_is_left_out() -> None:
    found = [
        RetrievedPassage("s", 0, 1, score, f"t{number}", 10, number)
        for number, score in enumerate([5.0, 4.5, 2.9, 3.2])
    ]
    assert [one.number for one in within_budget(found, 1000)] == [0, 1, 3]


def test_a_text_that_is_too_long_to_be_weighed_keeps_its_end(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.retriever, "window", 60)
    end = "The lens was broken by the keeper's goat at dusk. " * 5  # longer than the window
    first, second = lm.retriever.likelihood_gains(
        "Who broke the lens?", [f"{'Fog. ' * 80}{end}", f"{'Rain. ' * 90}{end}"]
    )
    assert first == pytest.approx(second, abs=1e-5)
    other, _ = lm.retriever.likelihood_gains("Who broke the lens?", [f"{end} {'Fog. ' * 80}", end])
    assert other != pytest.approx(first, abs=1e-5)


def test_nothing_is_reranked_where_the_best_stands_out(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lm.retriever, "likelihood_gains", lambda *_: pytest.fail("the likelihood was computed"))
    found = [
        RetrievedPassage("a", place, place + 1, score, str(place), 1, place) for place, score in enumerate([9, 2, 1])
    ]
    assert lm.retriever.rerank("Why?", found, 3) == found
    assert lm.retriever.rerank("Why?", [], 3) == []


def test_the_words_that_make_a_question_do_not_count(lm: LanguageModel) -> None:
    memory = lm.read("What, who and where.", source="a")
    for source, text in (("b", "The zinc trunk."), ("c", "A brass lamp.")):
        lm.read(text, memory, source=source)
    words = lm.retriever.rankings(memory, "What is zinc?")["words"]
    assert words.argmax() == 1
    assert words[0] == words[2]


def test_a_conversation_that_speaks_of_what_is_asked_for_counts_for_all_of_its_turns(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    for topic in ("lantern", "harbour"):
        turns = [f"{name}: {'We shall see what the others make of that. ' * 12}" for name in ("Ann", "Ben") * 4]
        turns[2] = f"Ann: Now to the {topic}. {turns[2][5:]}"
        lm.read("\n\n".join(turns), memory, source=topic)
    words = lm.retriever.rankings(memory, "Summarize the discussion about the lantern")["words"]
    lantern, harbour = (words[memory.passages_of(topic)] for topic in ("lantern", "harbour"))
    assert len(lantern) > 4
    assert lantern.min() > harbour.max()
    only = lm.search(memory, "What of the lantern?", filter=Filter(sources=["harbour"]))
    assert {passage.source for passage in only} == {"harbour"}


def test_rankings_add_up_to_the_score(lm: LanguageModel) -> None:
    memory = lm.read(logbook()[:8000], source="book")
    question = "What was the weather on the gallery?"
    rankings = lm.retriever.rankings(memory, question)
    heads, words = rankings["heads"], rankings["words"]
    passages = lm.search(memory, question, top=len(memory), rerank=0)
    assert [passage.score for passage in passages] == pytest.approx(
        [float(heads[passage.number] + words[passage.number]) for passage in passages], abs=1e-5
    )
    scores = memory.word_scores("weather gallery was on the")
    assert np.corrcoef(words, scores)[0, 1] > 0.9
    (of_tokens,) = lm.retriever.token_scores(memory, question, [2])
    assert of_tokens.shape == memory.ids(2).shape


def test_a_question_longer_than_half_of_the_window_is_refused(lm: LanguageModel) -> None:
    memory = lm.read("some text")
    with pytest.raises(UsageError, match="must have at most 1024 tokens, half of the model's window, got"):
        lm.search(memory, "why " * 1200)
