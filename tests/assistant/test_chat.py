"""A conversation is kept exchange by exchange, goes on after a restart, and finds what left its window."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from memspan import LanguageModel, load_memory
from memspan.assistant import chat as chat_room
from memspan.assistant.chat import KIND, Chat
from memspan.assistant.confidence import MIN_CONFIDENCE, SUPPORTED
from memspan.errors import UsageError
from memspan.memory import EncodedText, Memory
from memspan.memory.store.sources import Sources
from memspan.models.generate import Sampling
from memspan.pretrained.lookup import DRAFT
from tests.tiny import logbook

SHORT = Sampling(max_new_tokens=8)


def talk(lm: LanguageModel, memory: Memory, *turns: str, **options: float) -> Chat:
    chat = Chat(lm, memory, sampling=SHORT, **options)
    for turn in turns:
        assert "".join(chat.reply(turn))
    return chat


def prompt_of(chat: Chat, text: str) -> str:
    """What the model is given to read in a turn."""
    return str(chat.lm.tokenizer.decode(chat.prompt_ids(text)))


def test_an_exchange_is_one_source(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    said = "".join(Chat(lm, memory, sampling=SHORT).reply("Who keeps the light?")).strip()
    assert memory.generation == 1
    (source,) = memory.sources.values()
    assert source.name.startswith("chat/")
    assert (source.kind, source.complete) == (KIND, True)
    assert source.meta == {"turns": [["user", "Who keeps the light?"], ["assistant", said]]}
    text = "".join(memory.passage(number).text for number in range(len(memory)))
    assert text == f"User: Who keeps the light?\n\nAssistant: {said}"


def test_a_chat_goes_on_after_a_restart(lm: LanguageModel, tmp_path: Path) -> None:
    talk(lm, lm.new_memory(tmp_path / "memory"), "The key is under the mat.", "Good night.")
    again = Chat(lm, load_memory(tmp_path / "memory"), sampling=SHORT)
    assert [exchange.user for exchange in again.transcript] == ["The key is under the mat.", "Good night."]
    prompt = prompt_of(again, "Where is it?")
    assert prompt.index("under the mat") < prompt.index("Good night") < prompt.index("Where is it?")


def test_the_system_message_comes_first_and_is_not_remembered(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    chat = Chat(lm, memory, system="Be brief.", sampling=SHORT)
    list(chat.reply("Hello."))
    assert "Be brief." in prompt_of(chat, "Again.")
    assert "Be brief." not in memory.passage(0).text


def test_what_left_the_window_is_recalled_when_it_matters(lm: LanguageModel) -> None:
    secret = "The zinc trunk stands in the boathouse."
    filler = "Fog all day and nothing in sight but the gulls on the gallery rail. " * 25
    chat = talk(lm, lm.new_memory(), secret, *[f"Day {day}. {filler}" for day in range(8)])
    question = "Where does the zinc trunk stand, in the boathouse?"
    prompt = prompt_of(chat, question)
    assert f"> User: {secret}" in prompt
    assert chat.message == question
    assert chat.recalled[0].source == chat.transcript[0].source
    recent = {exchange.source for exchange in chat.transcript if f"\n\nUser: {exchange.user}\n\nAssist" in prompt}
    assert recent
    assert not {passage.source for passage in chat.recalled} & recent
    assert len(chat.prompt_ids(question)) + SHORT.max_new_tokens <= lm.decoder.window
    for message in (FOREIGN, "Good morning!"):
        assert "\n> " not in prompt_of(chat, message)
        assert (chat.message, chat.recalled) == (message, ())


FOREIGN = "Who won the football championship of 1998 in Paris?"
LOG = "Captain Birtle locked the strongroom.\nNobody saw him."


def test_what_bears_on_a_message_is_what_a_search_supports(lm: LanguageModel) -> None:
    """The threshold is that of a search without reranking: at none something is recalled for every message, at 1 nothing for any."""
    memory = lm.read(f"{logbook()[:6000]}\n\n{LOG}", source="log.txt")
    question = "Who locked the strongroom?"
    for message, least in itertools.product((question, FOREIGN), (0.0, MIN_CONFIDENCE, SUPPORTED, 1.0)):
        chat = Chat(lm, memory, sampling=SHORT, min_confidence=least, passages=8, budget=1000)
        chat.prompt_ids(message)
        supports = {passage.number: passage for passage in lm.search(memory, message, rerank=0, min_confidence=1e-9)}
        assert all(passage == supports[passage.number] for passage in chat.recalled)
        assert bool(chat.recalled) == (supports[lm.search(memory, message, rerank=0)[0].number].confidence >= least)
    chat = Chat(lm, memory, sampling=SHORT)
    chat.prompt_ids(question)
    assert [passage.confidence is not None and passage.confidence > SUPPORTED for passage in chat.recalled] == [True]


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_numbers_that_are_no_confidence(lm: LanguageModel, wrong: float) -> None:
    with pytest.raises(UsageError, match=r"^`min_confidence` must be from 0 to 1, got"):
        Chat(lm, lm.new_memory(), min_confidence=wrong)


def test_documents_are_recalled_as_quoted_data(lm: LanguageModel) -> None:
    chat = Chat(lm, lm.read(LOG, source="log.txt"), sampling=SHORT, min_confidence=0.0)
    assert "> Captain Birtle locked the strongroom.\n> Nobody saw him.\n\nWho?" in prompt_of(chat, "Who?")
    list(chat.reply("Who?"))
    assert chat.transcript[-1].user == "Who?"


def test_passages_longer_than_the_budget_are_left_out(lm: LanguageModel) -> None:
    memory = lm.read("Captain Birtle locked the strongroom at midnight.", source="log.txt")
    for budget, passages in ((3, 0), (100, 1)):
        chat = Chat(lm, memory, sampling=SHORT, budget=budget)
        chat.prompt_ids("Who locked the strongroom?")
        assert len(chat.recalled) == passages


def test_the_prompt_fits_also_where_lengths_were_underestimated(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_room, "TEMPLATE_TOKENS", -1000)
    memory = lm.new_memory()
    for day in range(30):
        turns = [["user", f"Day {day}. {'Fog all day. ' * 40}"], ["assistant", "Yes."]]
        lm.remember(memory, "An exchange.", source=f"chat/{day:02}", kind=KIND, turns=turns)
    prompt = prompt_of(chat := Chat(lm, memory, sampling=SHORT), "And today?")
    assert len(chat.prompt_ids("And today?")) + SHORT.max_new_tokens <= lm.decoder.window
    assert "Day 29." in prompt
    assert "Day 0." not in prompt


def test_exchanges_in_the_window_are_not_retrieved_as_well(lm: LanguageModel) -> None:
    chat = talk(lm, lm.new_memory(), "The zinc trunk stands in the boathouse.", min_confidence=0.0)
    assert "> " not in prompt_of(chat, "Where does the zinc trunk stand?")
    assert chat.recalled == ()


def test_two_exchanges_of_the_same_moment_have_names_of_their_own(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 1, 2, tzinfo=UTC)
    monkeypatch.setattr(chat_room, "datetime", SimpleNamespace(now=lambda zone: now))
    chat = talk(lm, lm.new_memory(), "One.", "Two.", "Three.")
    name = "chat/2026-01-02T00:00:00.000000Z"
    assert [exchange.source for exchange in chat.transcript] == [name, f"{name} (2)", f"{name} (3)"]


def test_an_answer_closed_early_is_kept_as_far_as_it_came(lm: LanguageModel) -> None:
    memory = lm.new_memory()
    chat = Chat(lm, memory, sampling=Sampling(max_new_tokens=50))
    answer = chat.reply("Tell me a story.")
    begun = next(answer) + next(answer)
    answer.close()  # type: ignore[attr-defined]
    (exchange,) = chat.transcript
    assert exchange.assistant == begun.strip()
    assert "".join(chat.reply("Go on.")), "the next turn works"


def test_a_turn_that_fails_leaves_nothing(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = lm.new_memory()
    chat = Chat(lm, memory, sampling=SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(lm.decoder, "step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(chat.reply("Hello."))
    assert (len(memory), chat.transcript) == (0, ())
    assert "".join(chat.reply("Hello."))


def test_forgetting_the_last_exchange(lm: LanguageModel) -> None:
    chat = talk(lm, lm.new_memory(), "One.", "Two.")
    chat.recalled = tuple(lm.search(chat.memory, "What did I say?"))
    assert chat.forget_last().user == "Two."
    assert (chat.message, chat.recalled) == ("", ())  # what the last turn retrieved may be what is forgotten
    assert [exchange.user for exchange in chat.transcript] == ["One."]
    assert "Two." not in prompt_of(chat, "What did I say?")
    chat.forget_last()
    with pytest.raises(UsageError, match="no exchange to forget"):
        chat.forget_last()


def test_later_turns_read_only_what_is_new(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """And answer as if they had read everything."""
    chat = talk(lm, lm.new_memory(), "The lamp was lit at dusk and put out at dawn.")
    fresh = Chat(lm, chat.memory.fork(), sampling=SHORT)
    first_reads: list[int] = []
    step = lm.decoder.step
    monkeypatch.setattr(lm.decoder, "step", lambda ids, *rest: (first_reads.append(ids.shape[1]), step(ids, *rest))[1])
    assert "".join(chat.reply("And then?")) == "".join(fresh.reply("And then?"))
    short, whole = [length for length in first_reads if length > 1 + DRAFT]
    assert short < whole


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_message_is_refused(lm: LanguageModel, text: str) -> None:
    with pytest.raises(UsageError, match="empty message"):
        Chat(lm, lm.new_memory()).reply(text)


def test_a_message_longer_than_the_window_is_refused(lm: LanguageModel) -> None:
    with pytest.raises(UsageError, match="shorten it"):
        Chat(lm, lm.read("Something.")).reply("word " * 5000)


def test_a_turn_looks_at_the_latest_exchanges_alone(lm: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are: as many records and passages are read after 300 turns as after 30."""

    def looks(count: int) -> int:
        memory, encoding = lm.new_memory(), lm.encoder.encode("An exchange.")
        fields = {"ids": encoding.ids, "keys": encoding.keys, "scales": encoding.scales, "passages": encoding.passages}
        memory.append(
            [
                EncodedText(
                    source=f"chat/{turn:03}",
                    start=0,
                    text="An exchange.",
                    kind=KIND,
                    meta={"turns": [["user", f"Day {turn}. {'Fog all day. ' * 10}"], ["assistant", "Yes."]]},
                    **fields,
                )
                for turn in range(count)
            ]
        )
        looked: list[str] = []
        look = Sources.__getitem__
        with monkeypatch.context() as patch:
            patch.setattr(Sources, "__getitem__", lambda self, name: (looked.append(name), look(self, name))[1])
            prompt = prompt_of(Chat(lm, memory, sampling=SHORT), "And today?")
        assert f"Day {count - 1}." in prompt
        return len(looked)

    assert looks(30) == looks(300) < 30


def test_marks_of_quotation_that_outgrow_the_window_cost_a_passage(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm.decoder, "window", 512)
    memory = lm.read("zinc\nx\n" * 60, source="list")
    chat = Chat(lm, memory, sampling=SHORT, min_confidence=0.0)
    assert len(chat.prompt_ids("zinc?")) + SHORT.max_new_tokens <= 512
