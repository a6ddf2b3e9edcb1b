"""The tokenizer of a task on texts: learned on them for small models, or that of a pretrained model."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from memspan.data.plain_text import plain_batch, plain_ids
from memspan.errors import MemspanError, UsageError

SPECIAL = ("<pad>", "<answer>", "<end>")
FILE = "tokenizer.json"
MIN_SIZE = 256 + len(SPECIAL)  # the bytes and the special tokens


class Tokenizer:
    """Text to token ids and back.

    Attributes:
        inner: the tokenizer of the `tokenizers` library.
        pad: the id that fills rows up.
        answer: the ids between the prompt and the answer.
        end: the id after an answer.
    """

    def __init__(self, inner: tokenizers.Tokenizer, pad: int, answer: Sequence[int], end: int) -> None:
        self.inner, self.pad, self.answer, self.end = inner, pad, tuple(answer), end
        inner.encode_special_tokens = True  # a text that spells "<end>" does not end anything

    @classmethod
    def learn(cls, texts: Iterable[str], size: int = 4096) -> Self:
        """Byte-pair encoding over bytes (Sennrich et al. 2016), so that no character of any script is unknown.

        `size` is the number of ids, the three special tokens included. Full-width and compatibility forms of
        characters become their plain ones (NFKC).

        Raises UsageError for a size below MIN_SIZE.
        """
        if size < MIN_SIZE:
            raise UsageError(f"The vocabulary must have at least {MIN_SIZE} ids, got {size}.")
        inner = tokenizers.Tokenizer(models.BPE())
        inner.normalizer = normalizers.NFKC()
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=16,  # scripts without spaces would else make tokens of whole clauses
            show_progress=False,
        )
        inner.train_from_iterator(texts, trainer)
        return cls(inner, 0, [1], 2)

    @classmethod
    def of_pretrained(cls, loaded: Any) -> Self:
        """That of a pretrained model, from a fast tokenizer of transformers."""
        inner = loaded.backend_tokenizer
        end = loaded.eos_token_id if loaded.eos_token_id is not None else loaded.sep_token_id
        pad = loaded.pad_token_id if loaded.pad_token_id is not None else end
        answer = inner.encode("\nAnswer:", add_special_tokens=False).ids
        return cls(inner, pad, answer, end)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The tokenizer that `save` wrote into `folder`. Raises UsageError if there is none, or it is damaged."""
        path = Path(folder) / FILE
        try:
            fields: dict[str, Any] = json.loads(path.read_text("utf-8"))
            inner = tokenizers.Tokenizer.from_str(json.dumps(fields["tokenizer"]))
            _check_ids(inner, [fields["pad"], *fields["answer"], fields["end"]])
            return cls(inner, fields["pad"], fields["answer"], fields["end"])
        except OSError as error:
            raise UsageError(f"{path} must be a readable file, got: {error.strerror}.") from error
        except BaseException as error:  # the library raises nothing more particular; its panics are no Exceptions
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise UsageError(f"{path} must be a tokenizer that memspan saved, got: {str(error)[:200]}.") from error

    def save(self, folder: str | Path) -> None:
        """Write the tokenizer into `folder`. Raises MemspanError if the system refuses."""
        fields = {
            "pad": self.pad,
            "answer": self.answer,
            "end": self.end,
            "tokenizer": json.loads(self.inner.to_str()),
        }
        try:
            (Path(folder) / FILE).write_text(json.dumps(fields, ensure_ascii=False), "utf-8")
        except OSError as error:
            raise MemspanError(f"Writing the tokenizer to {folder} failed: {error.strerror}.") from error

    @property
    def size(self) -> int:
        """The number of ids; all of them are below it."""
        size: int = self.inner.get_vocab_size(with_added_tokens=True)
        return size

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, without control tokens even where it spells them out."""
        return plain_ids(self.inner, text)

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts at once."""
        return plain_batch(self.inner, texts)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` up to the first end; padding is left out."""
        answer = list(ids)
        if self.end in answer:
            answer = answer[: answer.index(self.end)]
        text: str = self.inner.decode([id for id in answer if id != self.pad], skip_special_tokens=True)
        return text.strip()

    def prompt_text(self, ids: Sequence[int]) -> str:
        """The text of a prompt: without the padding before it and the answer marker behind it."""
        first = next((index for index, id in enumerate(ids) if id != self.pad), len(ids))
        last = len(ids) - len(self.answer) if tuple(ids[-len(self.answer) :]) == self.answer else len(ids)
        text: str = self.inner.decode(ids[first:last], skip_special_tokens=False)
        return text.strip()

    def token_texts(self, ids: Sequence[int]) -> list[str]:
        """The text of each id by itself, white space included; "\ufffd" where an id is only a part of a character."""
        return [self.inner.decode([id], skip_special_tokens=False) for id in ids]


def _check_ids(inner: tokenizers.Tokenizer, marks: Sequence[Any]) -> None:
    """Raises ValueError for a mark or a token whose id is not below the size of the vocabulary."""
    size = inner.get_vocab_size(with_added_tokens=True)
    if not all(type(mark) is int and 0 <= mark < size for mark in marks):
        raise ValueError(f"pad, answer and end must be ids below {size}, got {marks}")
    highest = max(inner.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= size:
        raise ValueError(f"the ids of {size} tokens must be below {size}, got {highest}")
