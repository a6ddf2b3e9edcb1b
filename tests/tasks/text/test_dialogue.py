"""Dialogues: what is read and asked, and that the right reply is found where the model knows what was said before."""

import math

import pytest
import torch
from torch import Tensor, nn

from memspan.errors import UsageError
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.state import State
from memspan.tasks import IGNORE_INDEX, build
from memspan.tasks.records import Example
from memspan.tasks.text.dialogue import Dialogue, Question, ranking_intervals, ranking_metrics
from tests.paths import DATA

MULTIWOZ = DATA / "multiwoz21/val.json.zip"


@pytest.fixture(scope="module")
def task() -> Dialogue:
    made = build("dialogue", vocabulary=400, segment=16)
    assert isinstance(made, Dialogue)
    return made


def test_each_turn_ends_with_what_ends_its_speakers_turns(task: Dialogue) -> None:
    tokenizer = task.tokenizer
    first, second, third = (tokenizer.encode(turn) for turn in ("One.", "Two!", "Three?"))
    assert task.turn_ids(["One.", "Two!"]) == [*first, *tokenizer.answer, *second, tokenizer.end]
    waiting = [*first, *tokenizer.answer, *second, tokenizer.end, *third, *tokenizer.answer]
    assert task.turn_ids(["One.", "Two!", "Three?"], ends_with_reply=False) == waiting
    assert task.prompt_ids(Example("One.\n\nTwo!\nThree?", ""), 1000) == waiting
    assert task.prompt_ids(Example("One.\nTwo!\nThree?", ""), 3) == waiting[-3:]  # the last turns matter most


def test_all_turns_are_asked_for(task: Dialogue) -> None:
    batch = task.streams(task.records[:5], segments=40)
    for record, ids, targets in zip(task.records, batch.ids, batch.targets, strict=False):
        asked = targets != IGNORE_INDEX
        turns = record["turns"]
        whole = task.turn_ids(turns)
        assert ids[asked].tolist() == whole[:-1]
        assert targets[asked].tolist() == whole[1:]
        assert (ids[~asked] == task.tokenizer.pad).all()
    assert task.streams(task.records[:5], segments=2).ids.shape == (5, 32)


def test_questions_are_the_same_each_time_and_have_one_right_reply(task: Dialogue) -> None:
    asked = task.questions(40)
    assert asked == task.questions(40)
    assert len(asked) == 40
    for one, record in zip(asked, task.held_out_records, strict=False):
        assert record["turns"][: len(one.context) + 1] == [*one.context, one.candidates[0]]
        assert len(one.context) % 2 == 1
        assert len(set(one.candidates)) == len(one.candidates) <= 100


class _Knowing(nn.Module):
    """Expects, after a dialogue it was shown, the reply that followed; after others, each token alike."""

    def __init__(self, task: Dialogue) -> None:
        super().__init__()
        self.vocabulary, self.unused = task.vocabulary, nn.Parameter(torch.zeros(()))
        self.follows: dict[tuple[int, ...], int] = {}
        for one in task.questions(20):
            ids = task.turn_ids([*one.context, one.candidates[0]])
            self.follows |= {tuple(ids[:place]): ids[place] for place in range(1, len(ids))}
        self.pad = task.tokenizer.pad

    def forward(self, ids: Tensor, state: State = None, keep: int | None = None) -> tuple[Tensor, State]:
        read = ids if state is None else torch.cat([state["read"], ids], 1)
        keep = ids.shape[1] if keep is None else keep
        logits = torch.zeros(len(ids), keep, self.vocabulary)
        for row, told in enumerate(read.tolist()):
            for place in range(keep):
                known = tuple(one for one in told[: len(told) - keep + place + 1] if one != self.pad)
                if known in self.follows:
                    logits[row, place, self.follows[known]] = 9.0
        return logits, {"read": read}


def test_who_knows_the_dialogue_finds_the_reply(task: Dialogue) -> None:
    told = task.score(_Knowing(task), segments=40, limit=20, batch_size=7)
    assert told["R@1"] == told["R@10"] == 1.0
    certain = math.log(math.exp(9) + task.vocabulary - 1) - 9
    assert told["perplexity"] == pytest.approx(math.exp(certain), rel=1e-4)
    assert told["BLEU"] == pytest.approx(100.0)


def test_who_knows_nothing_finds_none(task: Dialogue) -> None:
    """All replies are equally likely then, and a tie counts against the right one."""
    model = _Knowing(task)
    model.follows = {}
    told = task.score(model, segments=40, limit=20)
    assert told["R@10"] == 0.0
    assert told["perplexity"] == pytest.approx(task.vocabulary, rel=1e-4)


class _Partial(_Knowing):
    """Expects one reply anywhere, even more than the one that followed a dialogue it was shown."""

    def __init__(self, task: Dialogue, popular: str) -> None:
        super().__init__(task)
        self.answer, self.popular = task.tokenizer.answer[-1], task.tokenizer.encode(popular)

    def forward(self, ids: Tensor, state: State = None, keep: int | None = None) -> tuple[Tensor, State]:
        logits, state = super().forward(ids, state, keep)
        rows = state["read"].tolist()
        for row, column in ((row, column) for row in range(len(logits)) for column in range(logits.shape[1])):
            read = rows[row][: len(rows[row]) - logits.shape[1] + column + 1]
            reply = read[len(read) - read[::-1].index(self.answer) :]
            if reply == self.popular[: len(reply)] and len(reply) < len(self.popular):
                logits[row, column, self.popular[len(reply)]] = 20.0
        return logits, state


def test_a_reply_that_is_likely_anywhere_is_not_the_right_one(task: Dialogue) -> None:
    popular = "Five minutes on foot."
    questions = task.questions(20)
    assert sum(popular in question.candidates[1:] for question in questions) > 10
    assert task.score(_Partial(task, popular), segments=40, limit=20)["R@1"] == 1.0


def test_candidates_are_read_from_a_copy_of_the_state(task: Dialogue) -> None:
    """Together they are as likely as each by itself, read anew with all that was said before."""
    layer = [{"name": "sink_window", "sinks": 0, "window": 16, "block": 16}, {"name": "delta", "heads": 2}]
    model = ScratchModel(ScratchConfig(vocabulary=task.vocabulary, width=16, layers=[layer])).eval()
    one = task.questions(30)[0]
    with torch.no_grad():
        ((_, state),) = task.read_contexts(model, [one.context], segments=40, batch_size=1)
        together, lengths = task.likelihoods(model, one.candidates, state, 0)
        for candidate, told, length in zip(one.candidates[:5], together, lengths, strict=False):
            ids = torch.tensor([task.turn_ids([*one.context, candidate])])
            logits, _ = model(ids[:, :-1])
            right = logits.log_softmax(2).gather(2, ids[:, 1:, None])[0, -int(length) :]
            assert float(told) == pytest.approx(float(right.mean()), abs=1e-4)


def test_predict_answers_the_last_line(task: Dialogue) -> None:
    model = _Knowing(task)
    one = task.questions(20)[3]
    assert task.predict(model, ["\n".join(one.context)], segments=40) == [one.candidates[0]]


def test_all_replies_are_sought_among_replies_of_other_dialogues(task: Dialogue) -> None:
    questions = task.all_questions()
    assert questions == task.all_questions()
    dialogues = [record["turns"] for record in task.held_out_records]
    assert len(questions) == sum(len(turns) // 2 for turns in dialogues)
    for question in questions:
        turns = dialogues[question.dialogue]
        assert turns[: len(question.context) + 1] == [*question.context, question.candidates[0]]
        assert len(set(question.candidates)) == len(question.candidates) <= 100
        assert question.candidates[0] not in question.candidates[1:]


def test_metrics_of_ranks_and_their_intervals() -> None:
    ranks = [1, 2, 11, 1]
    metrics = ranking_metrics(ranks)
    assert metrics == {"R@10": 0.75, "R@1": 0.5, "MRR": pytest.approx((1 + 1 / 2 + 1 / 11 + 1) / 4)}
    alone = [Question([], [], number) for number in range(4)]
    together = [Question([], [], number // 2) for number in range(4)]
    for questions in (alone, together):
        for name, (low, high) in ranking_intervals(questions, ranks).items():
            assert low <= metrics[name] <= high
    assert ranking_intervals([Question([], [], 0)] * 4, ranks)["R@10"] == (0.75, 0.75)  # one dialogue is one draw


def test_one_dialogue_is_not_enough() -> None:
    task = build("dialogue", vocabulary=300, limit=2)
    assert isinstance(task, Dialogue)
    with pytest.raises(UsageError, match="two dialogues held out"):
        task.questions(1)


@pytest.mark.skipif(not MULTIWOZ.exists(), reason="the corpus is not at hand")
def test_multiwoz() -> None:
    task = build("dialogue", data=str(MULTIWOZ), format="multiwoz", vocabulary=400)
    assert isinstance(task, Dialogue)
    asked = task.questions(50)
    assert {len(one.candidates) for one in asked} == {100}
    assert not any("\n" in turn for record in task.records for turn in record["turns"])
    assert 0.1 < task.baselines(50)["TF-IDF, last turn"] <= 1
