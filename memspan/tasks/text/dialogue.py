"""What a speaker answers, given all that was said before.

Letters: B batch, T tokens, C candidates, V vocabulary.
"""

import math
import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from memspan.data.datasets import Record, pad
from memspan.errors import UsageError
from memspan.state import State, select
from memspan.tasks import metrics
from memspan.tasks.base import IGNORE_INDEX, Batch
from memspan.tasks.text.base import LEARN_FROM, Example, TextTask

CANDIDATES = 100  # the right reply among them
POOL = 200  # replies that the wrong ones are drawn from
OTHERS = 8  # contexts of other dialogues, to see how likely a reply is anywhere
WRITTEN = 50  # replies that a model writes itself, for BLEU
SEED = 0
TIE = 1e-5  # nats a token: replies that are no further apart are equally good

GUESTS = ("Ada", "Boris", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena")
DISHES = ("noodles", "dumplings", "curry", "pizza", "fish", "pancakes", "tacos", "soup")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ASIDES = (
    ("Is there a place to park?", "Yes, behind the house."),
    ("May I bring my dog?", "Of course, it gets some water."),
    ("Do you have high chairs?", "We have three of them."),
    ("Can we sit outside?", "If it does not rain."),
    ("How late are you open?", "Until eleven at night."),
    ("Is there music?", "Only on holidays."),
    ("Can I pay by card?", "By card or in cash."),
    ("Are you far from the station?", "Five minutes on foot."),
)


class Question(NamedTuple):
    """A reply that is looked for among others."""

    before: list[str]  # the turns before it
    candidates: list[str]  # the right one first


class Dialogue(TextTask):
    """Column: turns, a list of texts by two speakers in turn. The stream is the dialogue from its beginning.

    Each token of each turn is asked for at the one before. The turns of the speaker who begins end with the tokens that
    ask for an answer, those of the one who replies with the end of what was said.

    R@10 is how often the right reply is among the ten best of 100, the others being replies in other dialogues held
    out (next-utterance retrieval, Lowe et al. 2015, arXiv 1506.08909). Where the paper trains a model to tell right from
    wrong, replies are ranked here by what a language model thinks of them: the mean log-probability of a reply's
    tokens after the dialogue, less the same after other dialogues, since some replies are likely anywhere. The dialogue
    is read once; its state is then given to all candidates.
    """

    columns, metric = ("turns",), "R@10"

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """The dialogues in which somebody replies; empty turns are left out. Raises UsageError where turns are no list."""
        for record in records:
            if record["turns"] is not None and not isinstance(record["turns"], list | tuple):
                raise UsageError(f"The turns of a dialogue are a list of texts, not {str(record['turns'])[:40]!r}.")
        told = [{"turns": [" ".join(str(turn).split()) for turn in record["turns"] or ()]} for record in records]
        told = [{"turns": [turn for turn in one["turns"] if turn]} for one in told]
        return [one for one in told if len(one["turns"]) >= 2]

    def example(self, record: Record) -> Example:
        """The last reply, and the turns before it, a line each."""
        turns = record["turns"]
        last = len(turns) - 1 - len(turns) % 2
        return Example("\n".join(turns[:last]), turns[last])

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        return (turn for record in islice(records, LEARN_FROM) for turn in record["turns"])

    # ---- streams

    def turn_ids(self, turns: Sequence[str], replied: bool = True) -> list[int]:
        """All turns, each with what ends it. `replied` says whether the last one is a reply."""
        ids: list[int] = []
        for number, turn in enumerate(turns):
            reply = (len(turns) - number) % 2 == int(replied)
            ids += [*self.tokenizer.encode(turn), *([self.tokenizer.end] if reply else self.tokenizer.answer)]
        return ids

    def prompt_ids(self, example: Example, room: int) -> list[int]:
        """The last `room` ids of a dialogue, a turn on each line, that waits for a reply."""
        turns = [turn for turn in f"{example.source}\n{example.question}".splitlines() if turn.strip()]
        return self.turn_ids(turns, replied=False)[-room:]

    def streams(self, records: Sequence[Record], segments: int) -> Batch:
        room = segments * self.segment
        rows = []
        for record in records:
            turns = record["turns"]
            rows.append(self.turn_ids(turns, replied=len(turns) % 2 == 0)[: room + 1])
        ids, filled = pad([row[:-1] for row in rows], 1, self.tokenizer.pad)
        targets, _ = pad([row[1:] for row in rows], 1, self.tokenizer.pad)
        return Batch(ids, targets.masked_fill(~filled, IGNORE_INDEX))

    # ---- which reply is right

    def questions(self, limit: int | None = None) -> list[Question]:
        """A reply of each of the first `limit` dialogues held out among others; always the same ones."""
        draw = random.Random(SEED)
        dialogues = [record["turns"] for record in islice(self._rest, limit)]
        pool = [(place, turn) for place, turns in enumerate(dialogues) for turn in turns[1::2]]
        pool = draw.sample(pool, min(len(pool), POOL))
        asked = []
        for place, turns in enumerate(dialogues):
            reply = draw.randrange(1, len(turns), 2)
            wrong = sorted({turn for other, turn in pool if other != place and turn != turns[reply]})
            draw.shuffle(wrong)
            asked.append(Question(turns[:reply], [turns[reply], *wrong[: CANDIDATES - 1]]))
        if len(asked[0].candidates) < 2:
            raise UsageError("To look for the right reply among others, give two dialogues held out, or more.")
        return asked

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, rows: int = 32) -> dict[str, float]:
        """R@1 and R@10, the perplexity of the right replies, and BLEU of replies to the first few dialogues."""
        asked = self.questions(limit)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                places, perplexity = self._rank(model, asked, segments, rows)
            first = asked[:WRITTEN]
            said = self.generate(model, [Example("\n".join(one.before), "") for one in first], segments, rows)
        finally:
            model.train(was_training)
        return {**_recalls(places), "perplexity": perplexity, "BLEU": self._bleu(first, said)}

    def _rank(self, model: nn.Module, asked: Sequence[Question], segments: int, rows: int) -> tuple[list[int], float]:
        """The place of each right reply, 1 being the first, and the perplexity of them all."""
        anywhere = self._anywhere(model, sorted({one for each in asked for one in each.candidates}), segments, rows)
        places, missed, tokens = [0] * len(asked), 0.0, 0
        for chosen, state in self._after(model, [one.before for one in asked], segments, rows):
            for row, number in enumerate(chosen):
                candidates = asked[number].candidates
                told, lengths = self._likelihoods(model, candidates, state, row)
                scores = told - torch.tensor([anywhere[one] for one in candidates])
                places[number] = 1 + int((scores[1:] >= scores[0] - TIE).sum())  # a tie is no success
                missed, tokens = missed - float(told[0] * lengths[0]), tokens + int(lengths[0])
        return places, math.exp(min(missed / tokens, 700.0))

    def _anywhere(self, model: nn.Module, replies: Sequence[str], segments: int, rows: int) -> dict[str, float]:
        """How likely each reply is after dialogues trained on that it does not belong to."""
        draw = random.Random(SEED)
        before = []
        for record in draw.sample(self.records, min(OTHERS, len(self.records))):
            before.append(record["turns"][: draw.randrange(1, len(record["turns"]), 2)])
        total = torch.zeros(len(replies))
        for chosen, state in self._after(model, before, segments, rows):
            for row in range(len(chosen)):
                for first in range(0, len(replies), CANDIDATES):
                    part = slice(first, first + CANDIDATES)
                    total[part] += self._likelihoods(model, replies[part], state, row)[0]
        return dict(zip(replies, (total / len(before)).tolist(), strict=True))

    def _after(
        self, model: nn.Module, dialogues: Sequence[Sequence[str]], segments: int, rows: int
    ) -> Iterable[tuple[list[int], State]]:
        """Which dialogues, and the state after all but the last token that asks for a reply."""
        prompts = [self.turn_ids(turns, replied=False)[-segments * self.segment :] for turns in dialogues]
        order = sorted(range(len(prompts)), key=lambda place: len(prompts[place]))
        for first in range(0, len(order), rows):
            chosen = order[first : first + rows]
            ids, _ = pad([prompts[place] for place in chosen], 1, self.tokenizer.pad)
            _, state = model(ids[:, :-1].to(_device(model)), None, 0)
            yield chosen, state

    def _likelihoods(self, model: nn.Module, replies: Sequence[str], state: State, row: int) -> tuple[Tensor, Tensor]:
        """The mean log-probability of the tokens of each reply after row `row` of `state`, and how many they are: (C,)."""
        read = [[self.tokenizer.answer[-1], *self.answer_ids(Example("", reply))] for reply in replies]
        lengths = torch.tensor([len(one) - 1 for one in read])
        longest = int(lengths.max())
        ids = torch.tensor([one + [self.tokenizer.pad] * (longest + 1 - len(one)) for one in read])
        targets = ids[:, 1:].masked_fill(torch.arange(longest) >= lengths[:, None], IGNORE_INDEX)
        device = _device(model)
        state = select(state, torch.full((len(read),), row))
        logits, _ = model(ids[:, :-1].to(device), state, longest)
        loss = cross_entropy(
            logits.transpose(1, 2).float(), targets.to(device), ignore_index=IGNORE_INDEX, reduction="none"
        )
        return -loss.sum(1).cpu() / lengths, lengths

    # ---- judging

    def compute_metrics(self, records: Sequence[Record], said: Sequence[str]) -> dict[str, float]:
        """BLEU of what was said in the place of the last reply of each dialogue."""
        return {"BLEU": metrics.translation([self.example(record).target for record in records], said)["BLEU"]}

    def _bleu(self, asked: Sequence[Question], said: Sequence[str]) -> float:
        return metrics.translation([one.candidates[0] for one in asked], said)["BLEU"]

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        """Cosine of TF-IDF between candidate and what was said before (Lowe et al. 2015), the last turn or all turns."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        asked = self.questions(limit)
        vectors = TfidfVectorizer(tokenizer=metrics.words, token_pattern=None, sublinear_tf=True)
        vectors.fit(self.texts(self.records))
        told = {}
        for name, turns in (("TF-IDF, last turn", 1), ("TF-IDF, all turns", 10**6)):
            places = []
            for one in asked:
                before = vectors.transform([" ".join(one.before[-turns:])])
                scores = (vectors.transform(one.candidates) @ before.T).toarray()[:, 0]
                places.append(1 + int((scores[1:] >= scores[0]).sum()))
            told[name] = _recalls(places)[self.metric]
        return told

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Tables that are reserved: guest, dish and day are named first, and needed after other questions."""
        draw = random.Random(0)
        return [_reservation(draw) for _ in range(count)]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def _recalls(places: Sequence[int]) -> dict[str, float]:
    return {f"R@{at}": sum(place <= at for place in places) / len(places) for at in (10, 1)}


def _reservation(draw: random.Random) -> dict[str, Any]:
    guest, dish, day = draw.choice(GUESTS), draw.choice(DISHES), draw.choice(DAYS)
    turns = [f"Hello, I am {guest}. I would like {dish} on {day}.", "Gladly. What else would you like to know?"]
    for question, answer in draw.sample(ASIDES, draw.randint(2, 5)):
        turns += [question, answer]
    return {"turns": [*turns, "Then please write it down.", f"{dish.capitalize()} for {guest} on {day}. Thank you!"]}
