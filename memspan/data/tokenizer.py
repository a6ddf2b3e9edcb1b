"""Text <-> ids, for small models from byte-pair encodings learned on their own texts, for pretrained ones from theirs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from memspan.errors import MemspanError, UsageError

SPECIAL = ("<pad>", "<answer>", "<end>")
FILE = "tokenizer.json"


class Tokenizer:
    """Text to ids and back.

    Attributes:
        pad: the id that fills rows up.
        answer: the ids between what is read and what should be said.
        end: the id after what was said.
    """

    def __init__(self, inner: tokenizers.Tokenizer, pad: int, answer: Sequence[int], end: int) -> None:
        self.inner, self.pad, self.answer, self.end = inner, pad, tuple(answer), end
        inner.encode_special_tokens = True  # a text that spells "<end>" does not end anything

    @classmethod
    def learn(cls, texts: Iterable[str], size: int = 4096) -> Self:
        """Byte-pair encoding over bytes (Sennrich et al. 2016), so that no character of any script is unknown.

        `size` counts the ids; it is at least 259: the bytes and three ids of its own. Full-width and compatibility
        forms of characters become their plain ones (NFKC).
        """
        if size < 259:
            raise UsageError(f"A vocabulary of {size} is too small: it is at least 259.")
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
    def of_pretrained(cls, name: str) -> Self:
        """The tokenizer of a pretrained model: a Hugging Face id or folder, or a name that memspan knows."""
        from transformers import AutoTokenizer

        try:
            loaded = AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise UsageError(f"There is no tokenizer '{name}': {str(error).splitlines()[0]}") from error
        inner = loaded.backend_tokenizer
        end = loaded.eos_token_id if loaded.eos_token_id is not None else loaded.sep_token_id
        pad = loaded.pad_token_id if loaded.pad_token_id is not None else end
        answer = inner.encode("\nAnswer:", add_special_tokens=False).ids
        return cls(inner, pad, answer, end)

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """What `save` wrote. Raises UsageError where there is nothing."""
        path = Path(folder) / FILE
        try:
            kept: dict[str, Any] = json.loads(path.read_text("utf-8"))
            return cls(
                tokenizers.Tokenizer.from_str(json.dumps(kept["tokenizer"])), kept["pad"], kept["answer"], kept["end"]
            )
        except OSError as error:
            raise UsageError(f"The tokenizer {path} cannot be read: {error.strerror}.") from error
        except Exception as error:  # the library raises nothing more particular
            raise UsageError(f"{path} is no tokenizer of memspan: {error}.") from error

    def save(self, folder: str | Path) -> None:
        kept = {
            "pad": self.pad,
            "answer": self.answer,
            "end": self.end,
            "tokenizer": json.loads(self.inner.to_str()),
        }
        try:
            (Path(folder) / FILE).write_text(json.dumps(kept, ensure_ascii=False), "utf-8")
        except OSError as error:
            raise MemspanError(f"The tokenizer cannot be written to {folder}: {error.strerror}.") from error

    @property
    def size(self) -> int:
        """Ids are below it."""
        size: int = self.inner.get_vocab_size(with_added_tokens=True)
        return size

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self.inner.encode(text, add_special_tokens=False).ids
        return ids

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self.inner.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids` up to the first end; padding is left out."""
        kept = list(ids)
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        text: str = self.inner.decode([one for one in kept if one != self.pad], skip_special_tokens=True)
        return text.strip()
