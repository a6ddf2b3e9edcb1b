"""Intents: learned from past messages alone, a threshold for what fits none, a classifier for each language."""

import csv
from pathlib import Path
from random import Random

import pytest

from benchmarks.report import DATA
from memspan.apps.support.evaluation import shares
from memspan.apps.support.exchanges import read_exchanges
from memspan.apps.support.intents import Intents
from memspan.errors import UsageError

# Made like the dialogues of CrossWOZ and KdConv: hotels, restaurants, sights, films.
CHINESE = {
    "hotel": ("帮我订一家{}的酒店", "想找{}附近的宾馆住两晚", "{}有评分高的酒店吗"),
    "restaurant": ("推荐一家{}的餐馆吃烤鸭", "{}附近有什么好吃的饭店", "想在{}吃人均一百元的火锅"),
    "sight": ("{}有哪些免费的景点", "我想去{}的公园游玩", "{}的景点门票多少钱"),
    "film": ("{}上映的电影好看吗", "这部{}的电影导演是谁", "你看过{}的那部影片吗"),
}
ENGLISH = {
    "hotel": ("book a hotel in {}", "I need a room near {} for two nights", "is there a good hotel in {}"),
    "restaurant": ("recommend a restaurant in {}", "where can I eat noodles near {}", "a cheap dinner in {} please"),
    "sight": (
        "which sights are free in {}",
        "I would like to visit the park of {}",
        "how much is a ticket to the museum of {}",
    ),
    "film": ("is the film about {} any good", "who directed the movie set in {}", "have you seen that film from {}"),
}
PLACES = {"zh": ("北京", "西单", "昌平", "王府井", "颐和园"), "en": ("York", "Bath", "Leeds", "Dover", "Oxford")}


def messages(patterns: dict[str, tuple[str, ...]], language: str) -> list[tuple[str, str]]:
    return [
        (text.format(name), intent) for intent, texts in patterns.items() for text in texts for name in PLACES[language]
    ]


def fitted(pairs: list[tuple[str, str]], features: list[str] | None = None) -> Intents:
    return Intents.fit([text for text, _ in pairs], [intent for _, intent in pairs], features)


@pytest.fixture(scope="module")
def intents() -> Intents:
    return fitted([*messages(ENGLISH, "en"), *messages(CHINESE, "zh")])


def test_each_language_has_a_classifier_with_features_that_suit_it(intents: Intents) -> None:
    assert set(intents.classifiers) == {"en", "zh"}
    assert {choice.features for choice in intents.classifiers["en"].choices} == {
        ("words",)
    }  # there is no sentence encoder
    tried = {choice.features for choice in intents.classifiers["zh"].choices}
    assert tried == {("words",), ("characters",), ("words", "characters")}
    best = intents.classifiers["zh"].choices[0]
    assert intents.classifiers["zh"].features == list(best.features)
    assert all(best.score >= choice.score for choice in intents.classifiers["zh"].choices)


def test_messages_of_both_languages_are_recognised(intents: Intents) -> None:
    pairs = [
        ("book a good hotel in Dover", "hotel"),
        ("who directed the film about Bath", "film"),
        ("想住昌平的酒店", "hotel"),
    ]
    guesses = intents.guesses([text for text, _ in pairs])
    assert [guess.intent for guess in guesses] == [intent for _, intent in pairs]
    assert all(guess.is_known for guess in guesses)
    assert [intents.guess(text) for text, _ in pairs] == guesses


def test_what_fits_no_intent_is_refused_without_any_example_of_it(intents: Intents) -> None:
    strange = ["my printer is jammed again", "quantum chromodynamics", "股票今天跌停", "帮助孩子学数学"]
    guesses = intents.guesses(strange)
    assert not any(guess.is_known for guess in guesses), guesses
    assert all(guess.confidence < guess.threshold < 1 for guess in guesses)


def test_numbers_do_not_matter() -> None:
    pairs = [(f"where is order {n}", "track") for n in range(10_000, 10_010)] + [("give me money back", "refund")] * 2
    pairs += [(f"I want a refund of {n}", "refund") for n in range(10_000, 10_009)]
    learned = fitted(pairs, ["words"])
    assert learned.guess("where is order 77777").confidence == learned.guess("where is order 10001").confidence


def test_unfamiliar_words_count_where_that_helps(intents: Intents) -> None:
    classifier = intents.classifiers["en"]
    worth = {choice.by_words: choice for choice in classifier.choices}
    assert (worth[True].refused or 0) > (worth[False].refused or 0)
    assert classifier.familiar is not None
    assert {"hotel", "a hotel"} <= classifier.familiar
    near, strange = intents.guesses(["book a hotel in York", "book a hotel, zyxwv qwertz"])
    assert near.intent == strange.intent == "hotel"
    assert strange.confidence < near.confidence / 1.5


def test_saving_changes_nothing(intents: Intents, tmp_path: Path) -> None:
    intents.save(tmp_path)
    loaded = Intents.load(tmp_path, ["en", "zh"])
    texts = ["book a hotel", "股票今天跌停", "cinema"]
    assert loaded.guesses(texts) == intents.guesses(texts)
    assert loaded.labels == intents.labels
    assert loaded.classifiers["zh"].familiar == intents.classifiers["zh"].familiar
    assert loaded.classifiers["zh"].choices == intents.classifiers["zh"].choices


def test_a_language_with_few_messages_counts_with_the_other() -> None:
    learned = fitted([*messages(ENGLISH, "en"), ("订酒店", "hotel"), ("订宾馆", "hotel")], ["words"])
    assert list(learned.classifiers) == ["en"]
    assert learned.guess("订酒店").intent == "hotel"


def test_one_intent_is_too_few() -> None:
    with pytest.raises(UsageError, match="at least two intents to tell apart, got a"):
        Intents.fit(["x", "y"], ["a", "a"])
    with pytest.raises(UsageError, match="above 0 and below 1, got 1"):
        Intents.fit(["x", "y"], ["a", "b"], refused=1)


def test_real_requests_to_a_shop_are_recognised() -> None:
    path = DATA / "bitext_support" / "Bitext_Sample_Customer_Service_Validation_Dataset.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    imported = read_exchanges(path)
    assert imported.columns["message"] == "utterance"
    assert imported.columns["intent"] == "intent"
    pairs = [(exchange.message, exchange.intent) for exchange in imported.exchanges]
    Random(0).shuffle(pairs)
    learned = fitted(pairs[:500], ["words"])
    with path.open(encoding="utf-8") as file:
        assert sum(1 for _ in csv.reader(file)) == len(pairs) + 1
    guesses = learned.guesses([text for text, _ in pairs[500:]])
    outside = learned.guesses(["who won the match", "play some jazz", "how tall is mount everest", "tell me a joke"])
    measured = shares([(intent, guess) for (_, intent), guess in zip(pairs[500:], guesses, strict=True)], outside)
    assert (measured["intent accuracy"].value or 0) > 0.9
    assert (measured["out-of-scope recall"].value or 0) >= 0.75
