"""Stretches: what a question lacks of its sentence is the answer, in scripts without spaces."""

import pytest

from memspan.assistant.language_model import LanguageModel
from memspan.assistant.stretches import best_stretch, is_unspaced


@pytest.mark.parametrize(
    ("question", "sentence", "answer"),
    [
        ("《战国无双3》是由哪两个公司合作开发的？", "《战国无双3》是由光荣和Koei合作开发的游戏。", "光荣和Koei"),
        ("港口建于何时？", "港口建于1871年，由四十人建成。", "1871年"),
        ("这座桥的设计师是谁？", "这座桥的设计师是王大明。", "王大明"),
    ],
)
def test_what_the_question_lacks_is_the_answer(question: str, sentence: str, answer: str) -> None:
    stretch = best_stretch(question, sentence)
    assert stretch is not None
    assert answer in sentence[slice(*stretch)]
    assert len(sentence[slice(*stretch)]) < len(sentence) - 4


@pytest.mark.parametrize("sentence", ["", "。", "，。"])
def test_no_words_no_stretch(sentence: str) -> None:
    assert best_stretch("何时？", sentence) is None


def test_scripts() -> None:
    assert is_unspaced("港口建于1871年。")
    assert not is_unspaced("The harbour was built in 1871.")


def test_a_span_of_a_chinese_memory(lm: LanguageModel) -> None:
    text = "港口建于1871年，由四十人建成。\n\n冬天很冷。"
    found = lm.span(lm.read(text, source="notes"), "港口建于何时？")
    assert found is not None
    assert text[found.start : found.end] == found.text
    assert "1871" in found.text
