"""Answers and summaries in words of the text: chosen from all that was read, or from the last tokens alone."""

from collections.abc import Sequence
from statistics import stdev

from memspan.assistant.answerers.base import Answerer
from memspan.assistant.extracts.base import Case, Source
from memspan.data.corpora import Record
from memspan.evaluation.memory_vs_window import SEPARATOR, PromptedModel, View, Window, span_of
from memspan.tasks import DocumentSet, TextTask
from memspan.training.build import build_extractive
from memspan.training.config import TrainConfig
from memspan.training.extracting import fitted


class ExtractingModel(PromptedModel):
    """An extractive model with its language model; fitted to the task's training records where it comes with no weights.

    An answerer, if there is one, writes from the extract.
    """

    def __init__(
        self, config: TrainConfig, task: TextTask, budget: int, shots: int, answerer: Answerer | None = None
    ) -> None:
        super().__init__(config, task, budget, shots, answerer)
        self.extractive = build_extractive(config, task, self.lm)
        if not self.extractive.extracts.is_ready:
            self.extractive = fitted(config, task, self.lm)

    def begin(self, seed: int) -> None:
        """Nothing: no example is shown, and the fit does not depend on the seed."""

    def metrics(self, records: Sequence[Record], answers: Sequence[str]) -> dict[str, float]:
        """The task's metrics, and the standard error of the main metric over the questions."""
        pairs = zip(records, answers, strict=True)
        values = [self.task.compute_metrics([record], [answer])[self.task.metric] for record, answer in pairs]
        error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return {**super().metrics(records, answers), "standard error": error}

    def with_memory(self, document_set: DocumentSet) -> View:
        """The words chosen from all documents."""
        text = SEPARATOR.join(document_set.documents)
        return self._view(document_set, text, 0)

    def end_of_text(self, document_set: DocumentSet) -> View:
        """The words chosen from the last `budget` tokens of the documents."""
        text, first = self.last_tokens(document_set)
        return View(self._view(document_set, text, first).window, 0)

    def _view(self, document_set: DocumentSet, text: str, first: int) -> View:
        source, extracts = Source(self.lm, text[first:]), self.extractive.extracts
        nbytes = source.memory.nbytes if extracts.reads else len(source.text.encode("utf-8", "surrogatepass"))

        def window(record: Record) -> Window:
            example = self.task.example(record)
            (extract,) = extracts.extract([Case(source, example.question)])
            _, end = span_of(document_set, example)
            return Window(extract, end > first, [])

        return View(window, nbytes)

    def answer(self, question: str, text: str) -> str:
        """The extract itself, or what the answerer writes from it."""
        return text if self.answerer is None else self.written(self.answerer, question, text)
