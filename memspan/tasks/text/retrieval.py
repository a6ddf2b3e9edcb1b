"""Retrieval: the passage that answers a question, found by the likeness of vectors of the language model's own states."""

import random
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from memspan.data.corpora import Record
from memspan.data.datasets import pad, split_indices_by_group
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.pretrained.text_vectors import best_scale
from memspan.tasks.base import IGNORE_INDEX, Batch
from memspan.tasks.data_source import GENERATED, DataSource, drawn
from memspan.tasks.records import Example, RecordTask
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import LEARN_FROM

CALIBRATED_ON = 1000  # held-out pairs, at most
WITHIN = (1, 8)  # ranks up to which a passage counts as found


class PassageRetrieval(RecordTask):
    """Columns: question, passage. Vectors of both are learned, a question's near that of its passage.

    The model is a projection of the states of a frozen pretrained model: `PretrainedVectors` says how a row of ids is
    read, and why its target is 0. All questions about a passage are held out together. The baseline is TF-IDF.

    Args:
        source: where the pairs come from.
        segment: tokens of a segment; a row is a question, the end mark and a passage, and loses its end where it is too
            long for the streams.
        vocabulary: of a tokenizer that is learned, where no model is named.
        tokenizer: name of the pretrained model.
        saved: folder that `save` wrote.
    """

    is_text = True
    learned_by = "pretrained_vectors"
    columns, metric = ("question", "passage"), "recall at 1"
    baseline_packages = ("sklearn",)

    def __init__(
        self,
        source: DataSource = GENERATED,
        segment: int = 128,
        vocabulary: int = 4096,
        tokenizer: str | None = None,
        saved: str | None = None,
    ) -> None:
        super().__init__(source, segment, vocabulary, tokenizer, saved)

    def split(self, source: DataSource) -> tuple[Sequence[Record], Sequence[Record]]:
        """The test files where there are any; otherwise a random part of the passages with all their questions."""
        records, tests = source.read(self.columns, self.sample)
        if tests is not None:
            return drawn(records, source.limit, source.split_seed), drawn(tests, source.limit, source.split_seed)
        train, rest = split_indices_by_group(
            [str(record["passage"]) for record in records], source.held_out, source.split_seed
        )
        return [records[index] for index in train[: source.limit]], [records[index] for index in rest[: source.limit]]

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """The records without empty columns."""
        return [record for record in records if all(str(record[column] or "").strip() for column in self.columns)]

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        return (str(record[column]) for record in islice(records, LEARN_FROM) for column in self.columns)

    def example(self, record: Record) -> Example:
        return Example(str(record["question"]).strip(), str(record["passage"]).strip())

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        """Pairs of different passages as far as there are so many; the target of a row is 0, at its last token."""
        order = torch.randperm(len(self.records), generator=generator).tolist()
        drawn = [self.records[order[number % len(order)]] for number in range(batch_size)]
        ids = self._rows(drawn, segments * self.segment)
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -1] = 0
        return Batch(ids, targets)

    def _rows(self, records: Sequence[Record], longest: int) -> Tensor:
        """The pairs as rows of at most `longest` ids, padded on the left."""
        rows = []
        for example in map(self.example, records):
            question, passage = self.tokenizer.encode(example.source), self.tokenizer.encode(example.target)
            question = question[: max(1, longest // 2 - 1)]
            rows.append([*question, self.tokenizer.end, *passage[: max(1, longest - len(question) - 1)]])
        ids, _ = pad(rows, 1, self.tokenizer.pad)
        return ids

    # ---- what is found

    def score(self, model: nn.Module, segments: int, limit: int | None = 200, batch_size: int = 32) -> dict[str, float]:
        """The shares of the held-out questions whose passage is found first, and among the first eight."""
        return _recall(*self._held_out(model, limit))

    def calibrate(self, model: Any) -> None:
        """Measures by how much the cosines count, see `best_scale`."""
        model.projection.scale.fill_(best_scale(*self._held_out(model, CALIBRATED_ON)))

    def generate(self, model: nn.Module, examples: Sequence[Example], segments: int, batch_size: int = 32) -> list[str]:
        """The held-out passage that is most alike each question."""
        passages = list(dict.fromkeys(self.example(record).target for record in self.held_out_records or self.records))
        if not passages:
            raise UsageError(
                "There are no passages to find: `memspan read DOCUMENTS --into MEMORY --encoder FOLDER` reads some with the "
                "vectors in the model's folder, and `memspan search MEMORY QUESTION` finds them."
            )
        best = self._cosines(model, [example.source for example in examples], passages).argmax(1)
        return [passages[number] for number in best.tolist()]

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        right = [self.example(record).target == found for record, found in zip(records, predictions, strict=True)]
        return {self.metric: sum(right) / max(1, len(right))}

    def _held_out(self, model: nn.Module, limit: int | None) -> tuple[Tensor, list[int]]:
        """The cosines of the first `limit` held-out questions and their passages, (N, P), and the column of each, (N)."""
        examples = list(map(self.example, self.held_out_records[:limit]))
        passages = list(dict.fromkeys(example.target for example in examples))
        numbers = {passage: number for number, passage in enumerate(passages)}
        cosines = self._cosines(model, [example.source for example in examples], passages)
        return cosines, [numbers[example.target] for example in examples]

    def _cosines(self, model: Any, questions: Sequence[str], passages: Sequence[str]) -> Tensor:
        """(questions, passages)."""
        was_training = model.training
        model.eval()
        try:
            with torch.no_grad():
                of_questions = model.vectors(self.tokenizer.encode_all(questions), "question")
                found: Tensor = of_questions @ model.vectors(self.tokenizer.encode_all(passages), "passage").T
        finally:
            model.train(was_training)
        return found.cpu()

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        from sklearn.feature_extraction.text import TfidfVectorizer

        examples = list(map(self.example, self.held_out_records[:limit]))
        passages = list(dict.fromkeys(example.target for example in examples))
        vectors = TfidfVectorizer(tokenizer=words, token_pattern=None, sublinear_tf=True).fit(passages)
        likeness = vectors.transform([example.source for example in examples]) @ vectors.transform(passages).T
        own = [passages.index(example.target) for example in examples]
        return {"TF-IDF": _recall(torch.from_numpy(likeness.toarray()), own)[self.metric]}

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Notes on who left what where, each with a question about it."""
        draw, lists = random.Random(0), word_lists("question_answering")
        records = []
        for _ in range(count):
            who, what, where = (draw.choice(lists[name]) for name in ("people", "things", "locations"))
            passage = f"{draw.choice(lists['asides'])} {who} left {what} in {where}."
            records.append({"question": f"Where did {who} leave {what}?", "passage": passage})
        return records


def _recall(scores: Tensor, own: Sequence[int]) -> dict[str, float]:
    """The share of rows of `scores` (N, P) whose own column is among the best, by `WITHIN`."""
    mine = scores.gather(1, torch.tensor(own)[:, None])
    ranks = 1 + (scores > mine).sum(1)
    return {f"recall at {rank}": float((ranks <= rank).double().mean()) for rank in WITHIN}
