"""Answers part by part, in other threads, several at once, and in notebooks."""

import asyncio
import re
from copy import deepcopy

import pytest

import memspan
from memspan.assistant.language_model import LanguageModel
from memspan.errors import UsageError
from memspan.models.generate import Sampling
from tests.tiny import logbook

QUESTION = "What was the weather on the gallery?"
SHORT = Sampling(max_new_tokens=6)
HOSTILE = "<script>alert('x')</script> & <b>the weather on the gallery</b>"


@pytest.fixture(scope="module")
def memory(lm: LanguageModel) -> memspan.Memory:
    return lm.read(logbook()[:4000], source="book")


def test_a_stream_gives_the_text_and_then_the_answer(lm: LanguageModel, memory: memspan.Memory) -> None:
    stream = lm.stream(memory, QUESTION, sampling=SHORT)
    parts = list(stream)
    assert len(parts) > 1
    answer = stream.answer
    assert "".join(parts).strip() == answer.text
    expected = lm.ask(memory, QUESTION, sampling=SHORT)
    assert (answer.text, answer.passages) == (expected.text, expected.passages)


def test_the_answer_of_a_stream_writes_the_rest(lm: LanguageModel, memory: memspan.Memory) -> None:
    stream = lm.stream(memory, QUESTION, sampling=SHORT)
    next(stream)
    assert stream.answer.text == lm.ask(memory, QUESTION, sampling=SHORT).text
    assert list(stream) == []


def test_a_stream_that_is_closed_has_no_answer(lm: LanguageModel, memory: memspan.Memory) -> None:
    stream = lm.stream(memory, QUESTION, sampling=SHORT)
    next(stream)
    stream.close()
    assert list(stream) == []
    with pytest.raises(RuntimeError, match="closed before the answer"):
        _ = stream.answer


def test_wrong_settings_are_refused_before_the_first_part(lm: LanguageModel, memory: memspan.Memory) -> None:
    with pytest.raises(UsageError, match="budget"):
        lm.stream(memory, QUESTION, budget=-1)
    with pytest.raises(UsageError, match="empty"):
        lm.stream(lm.new_memory(), QUESTION)
    with pytest.raises(TypeError, match="colour"):
        lm.stream(memory, QUESTION, colour=1)


def test_questions_wait_for_each_other_and_for_nothing_else(lm: LanguageModel, memory: memspan.Memory) -> None:
    async def several() -> list[memspan.Answer]:
        return await asyncio.gather(*[lm.aask(memory, QUESTION, sampling=SHORT) for _ in range(3)])

    expected = lm.ask(memory, QUESTION, sampling=SHORT).text
    assert [answer.text for answer in asyncio.run(several())] == [expected] * 3
    assert deepcopy(lm).ask(memory, QUESTION, sampling=SHORT).text == expected


def test_several_questions_have_their_answers_in_order(lm: LanguageModel, memory: memspan.Memory) -> None:
    questions = [QUESTION, "Who keeps the log?"]
    answers = lm.ask_all(memory, questions, sampling=SHORT)
    assert [answer.text for answer in answers] == [lm.ask(memory, text, sampling=SHORT).text for text in questions]


def test_what_a_notebook_shows_is_escaped(lm: LanguageModel) -> None:
    memory = lm.read(HOSTILE, source="<i>name</i>.txt")
    answer = lm.ask(memory, "What was the weather on the gallery?", sampling=SHORT)
    for html in (answer._repr_html_(), memory._repr_html_(), memory.view()._repr_html_()):
        assert not re.search("<(script|b|i)>", html)
        assert "&lt;i&gt;name&lt;/i&gt;.txt" in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)" in answer._repr_html_()
    assert f"{answer.prompt_tokens} tokens read" in answer._repr_html_()
