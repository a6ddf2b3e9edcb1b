"""Spans: candidates are runs of words, their likelihoods are those of the model, and features know names and questions."""

import pytest
import torch

from memspan.assistant.language_model import LanguageModel
from memspan.assistant.spans import EXAMPLES, PROMPT, WEIGHTS, Candidate, Sentence, SpanReader, best, features
from memspan.data.plain_text import plain_ids

PASSAGE = "The harbour of Brevik was built in 1871 by forty men. It froze in the winter of 1903."
QUESTION = "When was the harbour of Brevik built?"


def reader(lm: LanguageModel) -> SpanReader:
    return SpanReader(lm.causal_lm, lm.tokenizer, sorted(lm.decoder.stop), lm.decoder.window)


def candidate(sentence: Sentence, text: str) -> Candidate:
    start = sentence.text.index(text)
    return Candidate(0, start, start + len(text), -1.0, -2.0, -1.0, 2)


def test_a_candidate_is_as_likely_as_the_model_says(lm: LanguageModel) -> None:
    """The batch behind the shared beginning gives what the whole prompt with the candidate gives."""
    sentences = [Sentence(PASSAGE[:54], 1.0), Sentence(PASSAGE[55:], 0.0)]
    found = reader(lm).candidates(QUESTION, PASSAGE, sentences)
    assert len({(one.sentence, one.start) for one in found}) == 16
    assert {one.sentence for one in found} == {0, 1}
    prompt = plain_ids(lm.tokenizer, EXAMPLES + PROMPT.format(passage=PASSAGE, question=QUESTION))
    for one in (found[0], found[-1]):
        text = one.text(sentences)
        assert text == text.strip()
        assert len(text.split()) <= 8
        ids = plain_ids(lm.tokenizer, f" {text}")
        assert len(ids) == one.tokens
        with torch.no_grad():
            logits = lm.causal_lm(torch.tensor([[*prompt, *ids]])).logits[0].float().log_softmax(-1)
        each = [float(logits[len(prompt) - 1 + number, token]) for number, token in enumerate(ids)]
        assert one.first == pytest.approx(each[0], abs=1e-3)
        assert one.likelihood == pytest.approx(sum(each), abs=1e-3)
        assert one.stop <= 0


def test_no_words_no_candidates(lm: LanguageModel) -> None:
    assert reader(lm).candidates(QUESTION, "...", [Sentence("...", 0.0)]) == []


def test_chinese_candidates_are_characters(lm: LanguageModel) -> None:
    sentence = Sentence("港口建于一八七一年。", 0.0)
    found = reader(lm).candidates("港口建于何时？", sentence.text, [sentence])
    texts = {one.text([sentence]) for one in found}
    assert "一八七一年" in texts
    assert not any("。" in text for text in texts)


def test_features_know_what_is_asked_for() -> None:
    sentence = Sentence(PASSAGE[:54], 1.0)
    texts = ("1871", "Brevik", "forty men", "harbour of Brevik", "of")
    named = features(QUESTION, [sentence], [candidate(sentence, text) for text in texts])
    assert set(named) == set(WEIGHTS)
    assert named["kind"].tolist()[0] == 1.0
    assert named["kind"].tolist()[1] == 0.0
    assert named["question"].tolist()[0] == 0.0 < named["question"].tolist()[3]
    assert named["function_first"].tolist() == [0, 0, 0, 0, 1]


def test_a_name_is_not_torn() -> None:
    sentence = Sentence("It was led by Anna Maria Berg then.", 0.0)
    named = features(
        "Who led it?", [sentence], [candidate(sentence, text) for text in ("Anna Maria Berg", "Anna", "Maria")]
    )
    assert named["torn"].tolist() == [0, 1, 2]
    assert named["kind"].tolist() == [1, 1, 1]


def test_of_equals_the_better_sentence_wins() -> None:
    sentences = [Sentence("Rain fell.", 0.0), Sentence("Rain fell.", 2.0)]
    pair = [Candidate(number, 0, 4, -1.0, -1.0, -1.0, 1) for number in (0, 1)]
    assert best("What fell?", sentences, pair, WEIGHTS) == 1


def test_a_span_stands_where_it_says(lm: LanguageModel) -> None:
    text = f"Rain fell for a week in Aldburg.\n\n{PASSAGE}\n\nThe bridge of Corvino is closed."
    memory = lm.read(text, source="notes")
    found = lm.span(memory, QUESTION)
    assert found is not None
    assert (found.source, text[found.start : found.end]) == ("notes", found.text)
    assert found.text in found.sentence
    assert found.sentence in PASSAGE
    assert lm.span(lm.new_memory(), QUESTION) is None
