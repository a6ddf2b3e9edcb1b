"""Byte classification: the class of a text that is read byte by byte."""

from typing import Self

import torch
from torch import Tensor

from memspan.errors import UsageError
from memspan.tasks.base import IGNORE_INDEX, Batch, Task
from memspan.tasks.data_source import SAMPLE
from memspan.tasks.text.classification import Classification

BYTES, HELD_OUT = 256, 10  # one text in so many is held out


class ByteClassification(Task):
    """Letters to a hotel as bytes; at the last byte the target is what the letter asks for, which its first sentence says.

    After the byte-level texts of Long Range Arena (Tay et al. 2021), with the sample of the task `classification` in place of
    film reviews. A stream ends with the end of its text, or where a longer text is cut; bytes of 0 fill it up before the text.

    Args:
        segment: bytes of a segment.
    """

    padding = 0

    def __init__(self, segment: int = 64) -> None:
        if segment < 1:
            raise UsageError(f"segment must be at least 1 byte, got segment={segment}.")
        self.segment = segment
        records = Classification.sample(SAMPLE)
        labels = sorted({record["label"] for record in records})
        self.classes, self.vocabulary = len(labels), BYTES + len(labels)
        texts = [(record["text"].encode(), BYTES + labels.index(record["label"])) for record in records]
        self._held_out = texts[::HELD_OUT]
        self._texts = [text for number, text in enumerate(texts) if number % HELD_OUT]

    def held_out(self) -> Self:
        return self.copy_with(_texts=self._held_out)

    def batch(self, batch_size: int, segments: int, generator: torch.Generator) -> Batch:
        length = segments * self.segment
        drawn = torch.randint(0, len(self._texts), (batch_size,), generator=generator).tolist()
        ids = torch.stack([self._filled(self._texts[number][0][:length], length) for number in drawn])
        targets = torch.full_like(ids, IGNORE_INDEX)
        targets[:, -1] = torch.tensor([self._texts[number][1] for number in drawn])
        return Batch(ids, targets)

    def _filled(self, text: bytes, length: int) -> Tensor:
        ids = torch.full((length,), self.padding)
        ids[length - len(text) :] = torch.tensor(list(text))
        return ids
