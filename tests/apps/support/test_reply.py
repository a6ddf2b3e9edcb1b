"""Replies: by intent, from the knowledge with citations, by a person; state goes on over turns and restarts."""

import shutil
from pathlib import Path

import pytest

import memspan
from memspan.apps.support.evaluation import evaluate, word_f1
from memspan.apps.support.exchanges import read_exchanges
from memspan.apps.support.folder import Folder, build, read_knowledge
from memspan.apps.support.reply import Desk, Settings
from memspan.errors import UsageError


def desk(folder: Path, lm: memspan.LanguageModel, **settings: float) -> Desk:
    return Desk(Folder.open(folder), lm, Settings(**settings))  # type: ignore[arg-type]


def test_a_known_intent_is_answered_by_its_template_in_the_language_of_the_message(
    shop: Path, lm: memspan.LanguageModel
) -> None:
    english = desk(shop, lm).reply("Please cancel order 48213.", "ada")
    assert english.kind == "template"
    assert english.text.startswith("Order 48213 can be cancelled")
    assert english.guess is not None
    assert english.guess.intent == "cancel_order"
    assert english.guess.confidence >= english.guess.threshold
    chinese = desk(shop, lm).reply("请取消订单77777。", "lin")
    assert (chinese.kind, chinese.text[:7]) == ("template", "订单77777")


def test_the_best_past_answer_has_the_numbers_of_the_customer(shop: Path, lm: memspan.LanguageModel) -> None:
    reply = desk(shop, lm).reply("Where is my order 48213?", "ada")
    assert reply.kind == "past answer"
    assert "48213" in reply.text
    assert "{" not in reply.text
    (source,) = reply.sources
    past = Folder.open(shop).store.past_answers()[source["past_answer"]]
    assert past.intent == "track_order"
    assert desk(shop, lm).reply("订单55555发货了吗？", "lin").text.endswith("查看订单55555的位置，国内需要两个工作日。")


def test_what_a_reply_needs_is_asked_for_and_the_next_message_goes_on_after_a_restart(
    shop: Path, lm: memspan.LanguageModel
) -> None:
    asking = desk(shop, lm).reply("Please cancel my order.", "ada")
    assert (asking.kind, asking.text) == (
        "question",
        "To answer this I need your order or customer number. Please send it to me.",
    )
    assert Folder.open(shop).store.customer("ada").pending == "cancel_order"
    going_on = desk(shop, lm).reply("48213, thanks a lot", "ada")
    assert (going_on.kind, going_on.text[:11]) == ("template", "Order 48213")
    later = desk(shop, lm).reply("Where is my order?", "ada")
    assert "48213" in later.text
    other = desk(shop, lm).reply("Please cancel my order.", "bob")
    assert other.kind == "question"


def test_the_knowledge_is_quoted_with_its_source(shop: Path, lm: memspan.LanguageModel) -> None:
    reply = desk(shop, lm).reply("How many years of warranty do handles of ash wood have?", "ada")
    assert reply.kind == "knowledge"
    assert reply.text.startswith("Handles of ash wood have a warranty of ten years, blades of five. ")
    assert reply.text.endswith(" [1]")
    assert reply.sources[0]["source"].endswith("warranty.md")
    assert (reply.support or 0) >= 0.25
    chinese = desk(shop, lm).reply("白蜡木手柄保修几年？", "lin")
    assert chinese.sources[0]["source"].endswith("保修.md")
    assert "白蜡木手柄保修十年" in chinese.text


def test_what_nothing_answers_goes_to_a_person_whose_answer_is_given_again(
    shop: Path, lm: memspan.LanguageModel
) -> None:
    question = "Do garden gnomes frighten hedgehogs?"
    reply = desk(shop, lm).reply(question, "ada")
    assert (reply.kind, reply.hand_over) == ("hand-over", 1)
    assert "(number 1)" in reply.text
    assert "fits no intent" in (reply.reason or "")
    assert "the knowledge supports an answer by" in (reply.reason or "")
    assert (
        desk(shop, lm)
        .reply("Quantum hedgehogs?", "ada")
        .text.startswith("A colleague has your question already (number 1)")
    )
    waiting_desk = desk(shop, lm)
    assert waiting_desk.folder.answers(lm) is waiting_desk.folder.answers(lm)
    (waiting,) = Folder.open(shop).store.queue()
    assert [turn["message"] for turn in waiting.transcript] == [question, "Quantum hedgehogs?"]
    Folder.open(shop).store.answer(1, "No, hedgehogs like gnomes.")
    news = desk(shop, lm).reply("Please cancel order 48213.", "ada")
    assert [hand_over.answer for hand_over in news.answered] == ["No, hedgehogs like gnomes."]
    assert desk(shop, lm).reply("Please cancel order 48213.", "ada").answered == ()
    assert waiting_desk.reply("Please cancel order 55555.", "eve").kind == "template"
    again = waiting_desk.reply(question, "bob")  # a process that was open before the answer was given
    assert (again.kind, again.text) == ("past answer", "No, hedgehogs like gnomes.")
    assert again.sources[0]["by_person"]


def test_an_intent_can_always_go_to_a_person(shop: Path, lm: memspan.LanguageModel) -> None:
    reply = desk(shop, lm).reply("I want to talk to a person.", "ada")
    assert (reply.kind, reply.reason) == ("hand-over", "messages of the intent 'person' go to a person")


def test_a_forgotten_customer_is_in_no_file(shop: Path, lm: memspan.LanguageModel) -> None:
    desk(shop, lm).reply("Do zebrafish like gnomes?", "ada")
    folder = Folder.open(shop)
    folder.store.answer(1, "Zebrafish do.")
    assert any("Zebrafish" in folder.answers(lm).view().passage(n).text for n in range(len(folder.answers(lm))))
    counts = folder.forget("ada")
    assert counts == {"turns": 1, "hand_overs": 1, "past_answers": 1}
    folder.store.close()
    held = [path for path in shop.rglob("*") if path.is_file() and b"ebrafish" in path.read_bytes()]
    assert held == []
    assert Folder.open(shop).store.customer("ada").turns == 0


def test_building_again_keeps_customers_and_takes_up_changes(
    shop: Path, lm: memspan.LanguageModel, data: Path, tmp_path: Path
) -> None:
    desk(shop, lm).reply("Do garden gnomes frighten hedgehogs?", "ada")
    knowledge = shutil.copytree(data / "knowledge", tmp_path / "knowledge")
    (knowledge / "warranty.md").unlink()
    (knowledge / "gnomes.md").write_text("# Gnomes\n\nGarden gnomes cost 20 euros.\n", "utf-8")
    read = read_knowledge(shop, lm, knowledge)
    assert any(name.endswith("warranty.md") for name in read.forgotten)
    build(shop, lm, read_exchanges(data / "dialogues.csv").exchanges, features=["words"])
    assert len(Folder.open(shop).store.queue()) == 1
    reply = desk(shop, lm).reply("What do garden gnomes cost?", "bob")
    assert reply.text.startswith("Garden gnomes cost 20 euros.")


def test_an_empty_message_is_refused_and_a_long_one_is_not(shop: Path, lm: memspan.LanguageModel) -> None:
    with pytest.raises(UsageError, match="The message must not be empty"):
        desk(shop, lm).reply("  ", "ada")
    assert desk(shop, lm).reply("Please cancel order 48213. " + "Thank you very much. " * 600, "ada").text


def test_a_folder_without_intents_answers_from_its_knowledge(
    lm: memspan.LanguageModel, data: Path, tmp_path: Path
) -> None:
    table = tmp_path / "chats.csv"
    table.write_text("question,answer\nDo gnomes bite?,Gnomes never bite.\n", "utf-8")
    read_knowledge(tmp_path / "shop", lm, data / "knowledge" / "care.md")
    build(tmp_path / "shop", lm, read_exchanges(table).exchanges)
    assert desk(tmp_path / "shop", lm).reply("Do gnomes bite?", "ada").text == "Gnomes never bite."
    reply = desk(tmp_path / "shop", lm).reply("How often should wooden handles be rubbed with linseed oil?", "ada")
    assert (reply.kind, reply.guess) == ("knowledge", None)
    with pytest.raises(UsageError, match="No message has the intent 'x'"):
        build(tmp_path / "other", lm, read_exchanges(table).exchanges, to_person=["x"])


def test_an_evaluation_keeps_nothing(shop: Path, lm: memspan.LanguageModel, data: Path) -> None:
    exchanges = read_exchanges(data / "test.csv").exchanges
    shares = evaluate(desk(shop, lm), exchanges, limit=8)
    assert (shares["intent accuracy"].value or 0) > 0.7
    assert (shares["out-of-scope recall"].value or 0) > 0.7
    assert shares["out-of-scope recall"].of == 7
    assert shares["hand-over rate"].of == 8
    assert Folder.open(shop).store.customer("evaluation").turns == 0
    assert word_f1("Order 1 is here", "order 1 was here") == 0.75
