"""Which text carried an answer: the loss of likelihood without it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch

import memspan
from memspan import LanguageModel
from memspan.data.plain_text import Message, plain_ids

QUESTION = "What does the keeper note about the bread oven?"


@torch.no_grad()
def log_likelihood(lm: LanguageModel, prompt: Sequence[Message], answer: str) -> float:
    """The mean over the tokens of the answer, token by token."""
    ids, written, total = lm.prompt_ids(prompt), plain_ids(lm.tokenizer, answer), 0.0
    for token in written:
        logits = lm.decoder.step(torch.tensor([ids]), lm.decoder.new_cache(), 0)[-1]
        total += float(logits.float().log_softmax(-1)[token])
        ids = [*ids, token]
    return total / len(written)


class Recorder:
    """An answerer that keeps its prompt."""

    name, window = "recorder", None

    def __init__(self, text: str) -> None:
        self.text, self.messages = text, []

    def answer(self, messages: Sequence[Message], sampling: memspan.Sampling) -> Iterator[str]:
        self.messages = list(messages)
        yield self.text


def test_the_gain_is_what_the_answer_loses_without_the_text(lm: LanguageModel) -> None:
    memory = lm.read("The bread oven of the keeper burns at night.", source="a")
    lm.read("The keeper is a note about another oven.", memory, source="b")
    recorder = Recorder("It burns.")
    answer = lm.ask(memory, QUESTION, passages=2, rerank=0, answerer=recorder)
    assert set(answer.numbers) == {1, 2}
    carried = lm.carried_by(QUESTION, answer)
    assert [text.gain for text in carried] == sorted((text.gain for text in carried), reverse=True)
    whole = log_likelihood(lm, recorder.messages, answer.text)
    for text in carried:
        (at,) = text.passages
        assert answer.numbers[at] == text.number
        other = [passage.text for index, passage in enumerate(answer.passages) if index != at]
        without = lm.ask(
            memory,
            QUESTION,
            passages=2,
            rerank=0,
            answerer=recorder,
            filter=memspan.Filter(answer.passages[1 - at].source),
        )
        assert [passage.text for passage in without.passages] == other
        assert text.gain == pytest.approx(whole - log_likelihood(lm, recorder.messages, answer.text), abs=2e-2)


def test_nothing_carries_what_was_not_written(lm: LanguageModel) -> None:
    memory = lm.read("The bread oven burns.")
    assert lm.carried_by(QUESTION, lm.ask(memory, QUESTION, min_confidence=1.0)) == ()
    answer = lm.ask(memory, QUESTION, answerer=Recorder(""))
    assert lm.carried_by(QUESTION, answer) == ()
    long = replace(answer, text="word " * lm.decoder.window)
    assert lm.carried_by(QUESTION, long) == ()
