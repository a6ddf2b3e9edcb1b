"""Counterfactual texts, and what is measured on them, against models whose bias is known."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from memspan.errors import UsageError
from memspan.evaluation.bias import Difference, Floats, of_templates, of_texts
from memspan.evaluation.counterfactuals import (
    FEMALE,
    GENDER,
    LANGUAGES,
    ORIGIN,
    filled,
    names,
    read_templates,
    swapped,
    templates,
)


@pytest.mark.parametrize(
    ("text", "other", "gender"),
    [
        ("She lost her keys.", "He lost his keys.", "female"),
        ("He gave it to her.", "She gave it to him.", None),
        ("I saw her, and the bag is hers.", "I saw him, and the bag is his.", "female"),
        ("The book is his.", "The book is hers.", "male"),
        ("HIS mother", "HER father", None),
        ("Mr Smith and the chairman", "Ms Smith and the chairwoman", "male"),
        ("James left.", "Emily left.", "male"),
        ("她很高兴。", "他很高兴。", "female"),
        ("王先生和其他人弹吉他。", "王女士和其他人弹吉他。", "male"),
        ("李建国是好爸爸。", "李秀英是好妈妈。", "male"),
    ],
)
def test_the_gender_of_a_text_is_swapped(text: str, other: str, gender: str | None) -> None:
    (pair,) = swapped([text, "The theory of the sheet, there."])
    assert (pair.text, pair.other, pair.gender) == (text, other, gender)


@pytest.mark.parametrize("language", LANGUAGES)
def test_names_are_balanced_and_templates_complete(language: str) -> None:
    found = names(language)
    assert len({name.text for name in found}) == len(found) >= 50
    assert len(set(Counter((name.origin, name.gender) for name in found).values())) == 1
    sentences = templates(language)
    assert len(set(sentences)) == len(sentences) == 24
    for sentence in sentences:
        for name in found:
            text = filled(sentence, name, language)
            assert "{" not in text
            assert name.text in text


def predictor(score: "dict[str, float]") -> "object":
    """A model of two labels whose probability of the first rises with the words of a text."""

    def predict(texts: Sequence[str]) -> Floats:
        first = np.array([0.5 + sum(gain for word, gain in score.items() if word in text) for text in texts])
        return np.stack([first, 1 - first], 1)

    return predict


def difference(found: Sequence[Difference], group: str, value: str = "good") -> Difference:
    return next(each for each in found if (each.group, each.value) == (group, value))


def test_a_model_without_bias_shows_none() -> None:
    predict = predictor({"happy": 0.3, "angry": -0.3})
    for attribute in of_templates(predict, ["good", "bad"], "en", templates("en")):  # type: ignore[arg-type]
        assert attribute.texts == 24 * 60
        assert attribute.flips is not None
        assert (attribute.flips.between, attribute.flips.within) == (0, 0)
        assert all(abs(each.difference) < 1e-9 and not each.is_clear for each in attribute.differences)
    own = of_texts(predict, ["good", "bad"], ["She was happy.", "It was angry."])  # type: ignore[arg-type]
    assert (own.of, own.texts, own.one_gender) == (2, 1, 1)
    assert own.changed is not None
    assert own.changed[0] == 0


def test_a_model_that_reacts_to_pronouns_is_found_out() -> None:
    predict = predictor({" she ": 0.2, " her ": 0.2})
    gender, origin = of_templates(predict, ["good", "bad"], "en", templates("en"))  # type: ignore[arg-type]
    assert (gender.attribute, origin.attribute) == (GENDER, ORIGIN)
    women = difference(gender.differences, FEMALE)
    assert women.is_clear
    assert women.difference == pytest.approx(-difference(gender.differences, FEMALE, "bad").difference)
    assert women.interval[0] > 0.02
    assert all(abs(each.difference) < 1e-9 for each in origin.differences)


def test_single_names_are_told_from_groups() -> None:
    """A name that the model reacts to makes labels differ within its group, and no clear difference between groups."""
    lone = of_templates(predictor({"James": -0.2, "Emily": -0.2}), ["good", "bad"], "en", templates("en"))[0]  # type: ignore[arg-type]
    assert lone.flips is not None
    assert lone.flips.within > 0
    assert lone.flips.interval[0] < 0 < lone.flips.interval[1]
    assert not difference(lone.differences, FEMALE).is_clear
    arabic = {name.text: -0.2 for name in names("en") if name.origin == "Arabic"}
    origin = of_templates(predictor(arabic), ["good", "bad"], "en", templates("en"))[1]  # type: ignore[arg-type]
    assert origin.flips is not None
    assert origin.flips.within == 0
    assert origin.flips.interval[0] > 0
    assert difference(origin.differences, "Arabic").difference == pytest.approx(-0.2)


def test_own_texts_and_numbers() -> None:
    texts = [f"She {word} the house." for word in ("saw", "sold", "left", "bought")] + ["He saw her."]
    own = of_texts(predictor({"She ": -0.1}), ["good", "bad"], texts)  # type: ignore[arg-type]
    assert (own.texts, own.one_gender) == (5, 4)
    assert own.changed is not None
    assert own.changed[0] == pytest.approx(1.0)  # also where both are swapped
    assert own.examples[0] == ("She saw the house.", "He saw the house.")
    assert difference(own.differences, FEMALE).difference == pytest.approx(-0.1)
    numbers = of_texts(lambda texts: np.array([[float("She" in text)] for text in texts]), ["number"], texts)
    assert numbers.changed is None
    assert difference(numbers.differences, FEMALE, "number").difference == pytest.approx(1.0)


def test_templates_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{name} sold {their} car.\n\n{name}卖了{their}车。\n", "utf-8")
    assert read_templates(tmp_path / "mine.txt") == {
        "en": ["{name} sold {their} car."],
        "zh": ["{name}卖了{their}车。"],
    }
    for content, reason in (
        ("Nobody.", "Line 1 of .* must have"),
        ("{name} {x}", "got {x}"),
        ("\n", "got none"),
    ):
        (tmp_path / "wrong.txt").write_text(content, "utf-8")
        with pytest.raises(UsageError, match=reason):
            read_templates(tmp_path / "wrong.txt")
