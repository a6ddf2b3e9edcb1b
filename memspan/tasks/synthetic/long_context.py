"""Long context: questions about sentences hidden in a long text, in the kinds that language models are tested with."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from memspan.data.corpora import Record
from memspan.data.scripts import words as words_of
from memspan.errors import UsageError
from memspan.tasks.base import Guide
from memspan.tasks.data_source import GENERATED, DataSource
from memspan.tasks.records import Example
from memspan.tasks.synthetic.needles import KINDS, MOST, Haystack, frequent_words
from memspan.tasks.text.base import TextTask
from memspan.tasks.text.language_modelling import YEARS, LanguageModelling, read_text
from memspan.tasks.text.question_answering import nearest_sentences

FREQUENT_WORDS = "frequent_words"


class LongContext(TextTask):
    """Questions about a text of a chosen length, in which the sentences that answer them stand anywhere.

    Kinds after RULER (Hsieh et al. 2024), with templates of memspan's own: `multi_key` (each of several keys is asked for
    its value), `multi_value` (all values of one key), `multi_query` (the values of several keys in one question),
    `variable_tracking` (all variables that got a number, each from the one before in four steps; `needles` chains stand in
    the text), `frequent_words` (the three most frequent of 50 invented words, of which the whole text consists). After
    NoLiMa (Modarressi et al. 2025): `latent`, where a question shares no content word with the fact that answers it, so that it is
    found by what it means alone; `literal` asks for the same facts in their own words.

    The metric is the share of the right answers that stand in what a model writes (recall). The baseline is the sentence of
    the text that is nearest to the question by TF-IDF. Half of the facts of `latent` and `literal`, and all numbers, keys
    and places, are held out.

    Args:
        source: text files that the sentences are hidden in (`data`, and `test` for the held-out texts, by default the last
            `held_out` of `data`); a chronicle that memspan generates where there are none. `limit` is the number of
            questions.
        kind: one of the kinds above.
        words: number of words of a text.
        needles: number of hidden sentences, or chains of them.
        texts: number of texts to train on, and of those held out.
        segment: tokens of a segment.
        vocabulary: size of the byte-pair encoding that is learned from the texts.
        tokenizer: name of a pretrained model whose tokenizer is used.
        saved: folder that `save` wrote.

    Raises UsageError for an unknown kind, a value out of range, or a file that cannot be read.
    """

    columns: ClassVar[tuple[str, ...]] = ("context", "question", "answers")
    metric = "recall"
    baseline_packages = ("sklearn",)
    answer_tokens = 64
    group_by = "context"
    guide = Guide(
        columns="plain text files",
        metrics="all found",
        on_sample="--mechanism delta --task-settings words=60 --task-settings kind=literal --task-settings texts=400 "
        "--task-settings segment=16 --segments 10 --batch-size 16 --learning-rate 4e-3 --seconds 30",
        on_files="--model smollm2 --precision auto --mechanism retrieval --data book.txt "
        "--task-settings words=3000 --documents 4 --seeds 1",
    )

    # The parameters are the settings of the task.
    def __init__(
        self,
        source: DataSource = GENERATED,
        kind: str = "multi_key",
        words: int = 1000,
        needles: int = 4,
        texts: int = 40,
        segment: int = 128,
        vocabulary: int = 4096,
        tokenizer: str | None = None,
        saved: str | None = None,
    ) -> None:
        if kind not in (*KINDS, FREQUENT_WORDS):
            raise UsageError(f"kind must be one of {', '.join((*KINDS, FREQUENT_WORDS))}, got kind={kind}.")
        if words < 20 or texts < 2 or not 1 <= needles <= MOST:
            raise UsageError(
                f"words must be at least 20, texts at least 2 and needles from 1 to {MOST}, "
                f"got words={words}, texts={texts}, needles={needles}."
            )
        self.kind, self.words, self.needles, self.text_count = kind, words, needles, texts
        super().__init__(source, segment, vocabulary, tokenizer, saved=saved)

    def split(self, source: DataSource) -> tuple[Sequence[Record], Sequence[Record]]:
        haystack = Haystack.of(_text(source.data))
        parts = (haystack, Haystack.of(_text(source.test))) if source.test else haystack.parts(1 - source.held_out)
        pairs = enumerate(parts)
        train, rest = ([*self._records(part, bool(number), source.split_seed)] for number, part in pairs)
        return train[: source.limit], rest[: source.limit]

    def _records(self, haystack: Haystack, held_out: bool, seed: int) -> Iterable[Record]:
        draw = random.Random(2 * seed + held_out)
        for _ in range(self.text_count):
            if self.kind == FREQUENT_WORDS:
                yield frequent_words(self.words, draw)
                continue
            needles = KINDS[self.kind](self.needles, draw, held_out)
            context = haystack.hide(needles.sentences, self.words, draw)
            for question, answers in needles.questions:
                yield {"context": context, "question": question, "answers": answers}

    @staticmethod
    def sample(count: int) -> list[dict[str, Any]]:
        """Nothing: all texts are made for the settings of the task."""
        return []

    def texts(self, records: Sequence[Record]) -> Iterable[str]:
        contexts = dict.fromkeys(str(record["context"]) for record in records)
        return (*contexts, *(str(record["question"]) for record in records))

    def example(self, record: Record) -> Example:
        return Example(str(record["context"]), ", ".join(record["answers"]), str(record["question"]))

    def compute_metrics(self, records: Sequence[Record], predictions: Sequence[str]) -> dict[str, float]:
        """The share of the right answers that the predictions name, and of the questions with all of them."""
        shares = []
        for record, prediction in zip(records, predictions, strict=True):
            written = f" {' '.join(words_of(prediction))} "
            found = [f" {' '.join(words_of(answer))} " in written for answer in record["answers"]]
            shares.append(sum(found) / len(found))
        return {"recall": sum(shares) / len(shares), "all found": sum(share == 1 for share in shares) / len(shares)}

    def baselines(self, limit: int | None = None) -> dict[str, float]:
        rest = self.held_out_records[:limit]
        nearest = nearest_sentences([str(record["context"]) for record in self.records], rest)
        return {"nearest sentence": self.compute_metrics(rest, nearest)[self.metric]}


def _text(paths: str | Sequence[str] | None) -> str:
    files = [paths] if isinstance(paths, str) else list(paths or ())
    if not files:
        return LanguageModelling.sample(YEARS).replace("\n", "\n\n")  # a paragraph for each year
    return "\n\n".join(read_text(Path(path)).decode("utf-8", "ignore") for path in files)
