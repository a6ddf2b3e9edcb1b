"""Question answering: a few words, a name or a number of a text that answer a question about it."""

import random
from collections.abc import Sequence
from typing import Any

from memspan.data.corpora import Record
from memspan.data.scripts import words
from memspan.errors import UsageError
from memspan.tasks import metrics
from memspan.tasks.base import Guide
from memspan.tasks.default_runs import EXTRACTED
from memspan.tasks.records import Example, Intervals
from memspan.tasks.samples import word_lists
from memspan.tasks.text.base import DocumentSet, TextTask

SPAN = 3  # words of an answer, about


class QuestionAnswering(TextTask):
    """Columns: context, question, answers (alternative right texts, as a list or in SQuAD's form on the hub).

    All questions about a context are held out together. A pretrained model with its memory reads the contexts as one long
    text, in random order, and no question names its context. The baseline is the sentence of the context that is nearest
    to the question by TF-IDF.
    """

    columns, metric = ("context", "question", "answers"), "F1"
    default_runs = (EXTRACTED,)
    packages, baseline_packages = ("torchmetrics",), ("sklearn",)
    group_by = "context"
    guide = Guide(
        columns="context, question, answers",
        metrics="exact match, contains",
        on_sample="--mechanism delta --task-settings segment=16 --segments 8 --batch-size 8 --learning-rate 6e-3 --seconds 45",
        on_files="--data dev-v1.1.json.zip --task-settings format=squad --task-settings held_out=0.5 --documents 20 "
        "--limit 10 --seeds 1",
    )

    def usable(self, records: Sequence[Record]) -> list[Record]:
        """Without questions that their context does not answer, such as some of SQuAD 2.0."""
        return [record for record in super().usable(records) if _answers(record)]

    def example(self, record: Record) -> Example:
        return Example(str(record["context"]), _answers(record)[0], str(record["question"]))

    def targets(self, record: Record) -> list[str]:
        return _answers(record)

    def extract_of(self) -> tuple[str, int]:
        return "spans", SPAN

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        return metrics.answers([_answers(record) for record in records], predictions)

    def intervals(self, records: Sequence[Record], predictions: Sequence[str]) -> Intervals:
        pairs = zip(records, predictions, strict=True)
        single = [self.compute_metrics([record], [prediction]) for record, prediction in pairs]
        return metrics.mean_intervals({name: [values[name] for values in single] for name in single[0]})

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.held_out_records[:limit]
        nearest = nearest_sentences([str(record["context"]) for record in self.records], rest)
        return {"nearest sentence": self.compute_metrics(rest, nearest)[self.metric]}

    def document_sets(self, documents: int, draw: random.Random) -> list[DocumentSet]:
        """All drawn sources as one set, read as one long text."""
        drawn = self.drawn_sources(documents, draw)
        return [DocumentSet([source for source, _ in drawn], [record for _, records in drawn for record in records])]

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Who left which thing where: a context states three such facts, and the question is about one of them."""
        draw, lists = random.Random(0), word_lists("question_answering")
        return [_facts_and_question(draw, lists) for _ in range(count)]


def nearest_sentences(texts: Sequence[str], records: Sequence[Record]) -> list[str]:
    """For each record the sentence of its context that is nearest to its question by TF-IDF, weighed as in `texts`."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(tokenizer=words, token_pattern=None)
    vectors.fit(texts)
    nearest = []
    for record in records:
        sentences = metrics.sentences(str(record["context"]))
        similarity = vectors.transform(sentences) @ vectors.transform([str(record["question"])]).T
        nearest.append(sentences[int(similarity.toarray().argmax())])
    return nearest


def _answers(record: Record) -> list[str]:
    """The right answers of a record, which may be a text, a list of texts, or {"text": a list}."""
    answers = record["answers"]
    if isinstance(answers, dict):
        if "text" not in answers:
            raise UsageError(f"Answers must be a text, a list of texts, or {{text: a list}}, got {str(answers)[:40]}.")
        answers = answers["text"]
    alternatives = answers if isinstance(answers, list | tuple) else [answers]
    return [str(answer) for answer in alternatives if answer is not None and str(answer).strip()]


def _facts_and_question(draw: random.Random, lists: dict[str, Any]) -> dict[str, Any]:
    names = (draw.sample(lists[noun], 3) for noun in ("people", "things", "locations"))
    facts = list(zip(*names, strict=True))
    sentences = [f"{person} left {thing} in {location}." for person, thing, location in facts]
    sentences += draw.sample(lists["asides"], draw.randint(1, 3))
    draw.shuffle(sentences)
    person, thing, location = draw.choice(facts)
    return {
        "context": " ".join(sentences),
        "question": f"Where did {person} leave {thing}?",
        "answers": [f"in {location}"],
    }
