"""Dialogue: the reply of a speaker, given all turns before it.

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

from memspan.data.corpora import Record
from memspan.data.datasets import pad
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.pretrained.features import AUTO
from memspan.pretrained.reply_ranker import ReplyRanker
from memspan.state import State, select
from memspan.tasks import metrics
from memspan.tasks.base import IGNORE_INDEX, Batch, Guide
from memspan.tasks.default_runs import OF_SCRATCH, DefaultRun
from memspan.tasks.records import Example, Measured
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import LEARN_FROM, TextTask

CANDIDATES = 100  # replies that are ranked, the right one among them
POOL = 200  # replies that the wrong candidates are drawn from
UNRELATED = 8  # training contexts that measure how likely a reply is anywhere
GENERATED = 50  # replies that a model writes itself, for BLEU
SEED = 0
TIE = 1e-5  # nats per token; replies that are no further apart are equally likely


# Chosen on a part of the training dialogues of MultiWOZ, CrossWOZ and KdConv, see LOG.md; a ranker of replies has a width and
# a window, too.
RANKED = DefaultRun(
    {"features": [AUTO], "width": 256, "dropout": 0.5, "steps": 400, "weight_decay": 0.05},
    unless=OF_SCRATCH - {"width", "window"} | {"lora"},
)
RANKED_ON_NAMED_FEATURES = RANKED._replace(needs=frozenset({"features"}), unless=frozenset({"lora"}))


class Question(NamedTuple):
    """A reply that has to be found among other ones."""

    context: list[str]  # the turns before it
    candidates: list[str]  # the right reply first
    dialogue: int = 0  # the number of its dialogue


class Dialogue(TextTask):
    """Column: turns, a list of texts by two speakers in turn. A `ReplyRanker` finds the next reply, a language model writes it.

    For a language model the stream is the dialogue from its beginning.

    Each token of each turn is a target at the token before it. A turn of the first speaker ends with the tokens that
    introduce an answer, a turn of the second with the end of an answer.

    R@10 is how often the right reply is among the ten best of 100, whose other members are replies in other held-out
    dialogues (next-utterance retrieval, Lowe et al. 2015, arXiv 1506.08909). Where the paper trains a classifier of right
    and wrong replies, replies are ranked here by a language model: the mean log-probability of their tokens after the
    dialogue, minus its mean after unrelated dialogues, since some replies are likely anywhere. A dialogue is read once;
    all candidates start from its state.
    """

    columns, metric = ("turns",), "R@10"
    fitted_by = ReplyRanker.kind
    default_runs = (RANKED, RANKED_ON_NAMED_FEATURES)
    packages, baseline_packages = ("sacrebleu",), ("sklearn",)
    guide = Guide(
        columns="turns",
        metrics="R@1, perplexity, BLEU",
        note="among 100",
        on_sample="--mechanism delta --task-settings segment=16 --segments 12 --batch-size 8 --seconds 30",
        on_files="--mechanism delta --data val.json.zip --data test.json.zip --task-settings format=multiwoz "
        "--task-settings segment=32 --task-settings vocabulary=2048 --segments 16 --batch-size 8 --learning-rate 3e-3 "
        "--seconds 30 --seeds 1",
    )

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """The dialogues with a reply, without empty turns. Raises UsageError where turns are not a list."""
        dialogues: list[Record] = []
        for record in records:
            turns = record["turns"]
            if turns is not None and not isinstance(turns, list | tuple):
                raise UsageError(f"The turns of a dialogue must be a list of texts, got {str(turns)[:40]!r}.")
            texts = [" ".join(str(turn).split()) for turn in turns or ()]
            dialogues.append({"turns": [text for text in texts if text]})
        return [dialogue for dialogue in dialogues if len(dialogue["turns"]) >= 2]

    def example(self, record: Record) -> Example:
        """The turns before the last reply, a line each, and that reply."""
        turns = record["turns"]
        last = len(turns) - 1 - len(turns) % 2
        return Example("\n".join(turns[:last]), turns[last])

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        return (turn for record in islice(records, LEARN_FROM) for turn in record["turns"])

    # ---- streams

    def turn_ids(self, turns: Sequence[str], ends_with_reply: bool = True) -> list[int]:
        """The ids of all turns, each followed by the tokens that end it."""
        ids: list[int] = []
        for number, turn in enumerate(turns):
            is_reply = (len(turns) - number) % 2 == int(ends_with_reply)
            ids += [*self.tokenizer.encode(turn), *([self.tokenizer.end] if is_reply else self.tokenizer.answer)]
        return ids

    def prompt_ids(self, example: Example, max_tokens: int) -> list[int]:
        """The last `max_tokens` ids of a dialogue, given as a line for each turn, that waits for a reply."""
        turns = [turn for turn in f"{example.source}\n{example.question}".splitlines() if turn.strip()]
        return self.turn_ids(turns, ends_with_reply=False)[-max_tokens:]

    def streams(self, records: Sequence[Record], segments: int) -> Batch:
        max_tokens = segments * self.segment
        rows = []
        for record in records:
            turns = record["turns"]
            rows.append(self.turn_ids(turns, ends_with_reply=len(turns) % 2 == 0)[: max_tokens + 1])
        ids, filled = pad([row[:-1] for row in rows], 1, self.tokenizer.pad)
        targets, _ = pad([row[1:] for row in rows], 1, self.tokenizer.pad)
        return Batch(ids, targets.masked_fill(~filled, IGNORE_INDEX))

    # ---- ranking replies

    def questions(self, limit: int | None = None) -> list[Question]:
        """A reply of each of the first `limit` held-out dialogues among others; the same at every call."""
        draw = random.Random(SEED)
        dialogues = [record["turns"] for record in self.held_out_records[:limit]]
        replies = [(index, turn) for index, turns in enumerate(dialogues) for turn in turns[1::2]]
        pool = draw.sample(replies, min(len(replies), POOL))
        questions = []
        for index, turns in enumerate(dialogues):
            position = draw.randrange(1, len(turns), 2)
            right = turns[position]
            wrong = sorted({turn for origin, turn in pool if origin != index and turn != right})
            draw.shuffle(wrong)
            questions.append(Question(turns[:position], [right, *wrong[: CANDIDATES - 1]], index))
        if len(questions[0].candidates) < 2:
            raise UsageError("Ranking replies needs at least two dialogues held out: give more data.")
        return questions

    def all_questions(self) -> list[Question]:
        """Every reply in the held-out dialogues, among replies in others of them; the same at every call."""
        draw = random.Random(SEED)
        dialogues = [record["turns"] for record in self.held_out_records]
        replies = [(index, turn) for index, turns in enumerate(dialogues) for turn in turns[1::2]]
        questions = []
        for index, turns in enumerate(dialogues):
            for position in range(1, len(turns), 2):
                right = turns[position]
                pool = draw.sample(replies, min(len(replies), POOL))
                wrong = list(dict.fromkeys(turn for origin, turn in pool if origin != index and turn != right))
                questions.append(Question(turns[:position], [right, *wrong[: CANDIDATES - 1]], index))
        if all(len(question.candidates) < 2 for question in questions):
            raise UsageError("Ranking replies needs at least two dialogues held out: give more data.")
        return questions

    def measured(self, model: nn.Module, segments: int) -> Measured:
        """Every reply among others by a ranker of replies; a model that writes them is measured as for a prediction."""
        if not isinstance(model, ReplyRanker):
            return super().measured(model, segments)
        questions = self.all_questions()
        texts = [text for question in questions for text in (*question.context, *question.candidates)]
        contexts, candidates = (
            [question.context for question in questions],
            [question.candidates for question in questions],
        )
        scores = (evidence @ model.weights for evidence in model.evidence(model.turns(texts), contexts, candidates))
        ranks = [1 + int((values[1:] >= values[0]).sum()) for values in scores]
        return Measured(len(questions), ranking_metrics(ranks), ranking_intervals(questions, ranks))

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, batch_size: int = 32) -> dict[str, float]:
        """R@1 and R@10, the perplexity of the right replies, and BLEU of generated replies to the first few dialogues."""
        questions = self.questions(limit)
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                ranks, perplexity = self._rank(model, questions, segments, batch_size)
            generated = questions[:GENERATED]
            contexts = [Example("\n".join(question.context), "") for question in generated]
            replies = self.generate(model, contexts, segments, batch_size)
        finally:
            model.train(was_training)
        gold = [question.candidates[0] for question in generated]
        return {**_recalls(ranks), "perplexity": perplexity, "BLEU": metrics.translation(gold, replies)["BLEU"]}

    def _rank(
        self, model: nn.Module, questions: Sequence[Question], segments: int, batch_size: int
    ) -> tuple[list[int], float]:
        """The rank of each right reply, 1 for the best, and the perplexity of all right replies."""
        replies = sorted({reply for question in questions for reply in question.candidates})
        prior = self._prior(model, replies, segments, batch_size)
        contexts = [question.context for question in questions]
        ranks, loss, tokens = [0] * len(questions), 0.0, 0
        for numbers, state in self.read_contexts(model, contexts, segments, batch_size):
            for row, number in enumerate(numbers):
                candidates = questions[number].candidates
                likelihoods, lengths = self.likelihoods(model, candidates, state, row)
                scores = likelihoods - torch.tensor([prior[reply] for reply in candidates])
                ranks[number] = 1 + int((scores[1:] >= scores[0] - TIE).sum())  # a tie counts against the right reply
                loss, tokens = loss - float(likelihoods[0] * lengths[0]), tokens + int(lengths[0])
        return ranks, math.exp(min(loss / tokens, 700.0))

    def _prior(self, model: nn.Module, replies: Sequence[str], segments: int, batch_size: int) -> dict[str, float]:
        """The mean log-probability of each reply's tokens after unrelated training dialogues."""
        draw = random.Random(SEED)
        contexts = []
        for record in draw.sample(self.records, min(UNRELATED, len(self.records))):
            contexts.append(record["turns"][: draw.randrange(1, len(record["turns"]), 2)])
        total = torch.zeros(len(replies))
        for numbers, state in self.read_contexts(model, contexts, segments, batch_size):
            for row in range(len(numbers)):
                for start in range(0, len(replies), CANDIDATES):
                    some = slice(start, start + CANDIDATES)
                    total[some] += self.likelihoods(model, replies[some], state, row)[0]
        return dict(zip(replies, (total / len(contexts)).tolist(), strict=True))

    def read_contexts(
        self, model: nn.Module, contexts: Sequence[Sequence[str]], segments: int, batch_size: int
    ) -> Iterable[tuple[list[int], State]]:
        """Batches of contexts: their numbers, and the state after all ids but the last, which introduces a reply."""
        prompts = [self.turn_ids(turns, ends_with_reply=False)[-segments * self.segment :] for turns in contexts]
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        for start in range(0, len(order), batch_size):
            numbers = order[start : start + batch_size]
            ids, _ = pad([prompts[number] for number in numbers], 1, self.tokenizer.pad)
            _, state = model(ids[:, :-1].to(_device(model)), None, 0)
            yield numbers, state

    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, batch_size: int = 32) -> list[str]:
        """What the model writes; of a ranker of replies, the best of those known from training."""
        if isinstance(model, ReplyRanker):
            return [found[0][0] for found in model.best([turns_of(example.source) for example in examples])]
        return super().generate(model, examples, segments, batch_size)

    def likelihoods(self, model: nn.Module, replies: Sequence[str], state: State, row: int) -> tuple[Tensor, Tensor]:
        """The mean log-probability of the tokens of each reply after row `row` of `state`, and their number: (C,), (C,)."""
        streams = [[self.tokenizer.answer[-1], *self.answer_ids(Example("", reply))] for reply in replies]
        lengths = torch.tensor([len(stream) - 1 for stream in streams])
        longest = int(lengths.max())
        ids = torch.tensor([stream + [self.tokenizer.pad] * (longest + 1 - len(stream)) for stream in streams])
        targets = ids[:, 1:].masked_fill(torch.arange(longest) >= lengths[:, None], IGNORE_INDEX)
        device = _device(model)
        state = select(state, torch.full((len(streams),), row))
        logits, _ = model(ids[:, :-1].to(device), state, longest)
        loss = cross_entropy(
            logits.transpose(1, 2).float(), targets.to(device), ignore_index=IGNORE_INDEX, reduction="none"
        )
        return -loss.sum(1).cpu() / lengths, lengths

    # ---- metrics

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        """BLEU of the predictions for the last reply of each dialogue."""
        return {"BLEU": metrics.translation([self.example(record).target for record in records], predictions)["BLEU"]}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        """Cosine of TF-IDF between a candidate and the last turn, or all turns, before it (Lowe et al. 2015)."""
        ranks = self.baseline_ranks(self.questions(limit))
        return {name: _recalls(found)[self.metric] for name, found in ranks.items()}

    def baseline_ranks(self, questions: Sequence[Question]) -> dict[str, list[int]]:
        """The rank of the right reply of each question by these cosines; a tie counts against it."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectors = TfidfVectorizer(tokenizer=words, token_pattern=None, sublinear_tf=True)
        vectors.fit(self.texts(self.records))
        texts = list(dict.fromkeys(text for question in questions for text in question.candidates))
        numbers, replies = {text: number for number, text in enumerate(texts)}, vectors.transform(texts)
        found: dict[str, list[int]] = {}
        for name, turns in (("TF-IDF, last turn", 1), ("TF-IDF, all turns", 10**6)):
            contexts = vectors.transform([" ".join(question.context[-turns:]) for question in questions])
            found[name] = []
            for question, context in zip(questions, contexts, strict=True):
                candidates = replies[[numbers[text] for text in question.candidates]]
                scores = (candidates @ context.T).toarray()[:, 0]
                found[name].append(1 + int((scores[1:] >= scores[0]).sum()))
        return found

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Table reservations: guest, dish and day are named first, and needed again after other questions."""
        draw, lists = random.Random(0), word_lists("dialogue")
        return [_reservation(draw, lists) for _ in range(count)]


def turns_of(text: str) -> list[str]:
    """The turns of a conversation that is written with a line for each."""
    return [" ".join(turn.split()) for turn in text.splitlines() if turn.strip()]


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def ranking_metrics(ranks: Sequence[int]) -> dict[str, float]:
    """R@10, R@1 and the mean reciprocal rank (MRR) of the right replies."""
    return {**_recalls(ranks), "MRR": sum(1 / rank for rank in ranks) / len(ranks)}


def ranking_intervals(
    questions: Sequence[Question], ranks: Sequence[int], draws: int = 1000
) -> dict[str, tuple[float, float]]:
    """The 95 % intervals of these metrics, by a bootstrap over the dialogues, whose replies are no independent draws."""
    import numpy as np

    numbers = np.unique([question.dialogue for question in questions], return_inverse=True)[1]
    found = np.asarray(ranks)
    counts = np.bincount(numbers).astype(float)
    weights = np.random.default_rng(SEED).multinomial(len(counts), np.ones(len(counts)) / len(counts), size=draws)
    values = {"R@10": found <= 10, "R@1": found <= 1, "MRR": 1 / found}
    intervals = {}
    for name, value in values.items():
        means = weights @ np.bincount(numbers, value) / (weights @ counts)
        low, high = np.percentile(means, [2.5, 97.5])
        intervals[name] = (float(low), float(high))
    return intervals


def _recalls(ranks: Sequence[int]) -> dict[str, float]:
    return {f"R@{at}": sum(rank <= at for rank in ranks) / len(ranks) for at in (10, 1)}


def _reservation(draw: random.Random, lists: dict[str, Any]) -> dict[str, Any]:
    guest, dish, day = (draw.choice(lists[noun]) for noun in ("guests", "dishes", "days"))
    turns = [f"Hello, I am {guest}. I would like {dish} on {day}.", "Gladly. What else would you like to know?"]
    for question, answer in draw.sample(lists["asides"], draw.randint(2, 5)):
        turns += [question, answer]
    return {"turns": [*turns, "Then please write it down.", f"{dish.capitalize()} for {guest} on {day}. Thank you!"]}
