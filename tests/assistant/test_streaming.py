"""Text while its tokens arrive: whole characters, each once."""

from collections.abc import Generator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from memspan import LanguageModel, Sampling
from memspan.assistant.streaming import StreamedText


class Bytes:
    """A tokenizer of UTF-8 bytes whose id 0 is special."""

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        return bytes(token for token in tokens if token or not skip_special_tokens).decode(errors="replace")


def test_a_character_is_shown_once_it_is_whole() -> None:
    text = StreamedText(Bytes())
    parts = []
    for token in [*"né".encode(), 0, *"光".encode()]:
        text.append(token)
        parts.append(text.take())
    assert parts == ["n", "", "é", "", "", "", "光"]
    assert text.shown == text.text == "né光"


def test_tokens_may_arrive_several_at_a_time() -> None:
    text = StreamedText(Bytes())
    for token in b"abc":
        text.append(token)
    assert (text.take(), text.take()) == ("abc", "")
    text.append("é".encode()[0])
    assert (text.take(), text.shown, text.text) == ("", "abc", "abc\ufffd")


def test_the_parts_join_to_the_text(tiny_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    text = StreamedText(tokenizer)
    written = "The 灯塔 keeper's naïve café: 🏮!"
    ids = tokenizer(written)["input_ids"]
    parts = []
    for token in ids:
        text.append(token)
        parts.append(text.take())
    assert "".join(parts) == text.text == tokenizer.decode(ids, skip_special_tokens=True)


def test_what_only_repeats_is_held_back_and_dropped_in_a_cycle(
    lm: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most two occurrences of a run that goes on without end are shown, and other repetitions as they are."""
    tokenizer = lm.tokenizer

    def parts(text: str) -> list[str]:
        def generate(ids: object, sampling: object, prefix: object) -> Generator[int, None, None]:
            yield from tokenizer(text, add_special_tokens=False)["input_ids"]

        monkeypatch.setattr(lm.decoder, "generate", generate)
        return list(lm.answerer.answer([{"role": "user", "content": "?"}], Sampling()))

    once = "It was a male, a bird"
    looped = "".join(parts(f"{once}{' that sings' * 30}"))
    assert f"{once} that sings".startswith(looped[: len(once) + 4])
    assert looped.count(" that sings") <= 2
    for text in (f"{once} ha ha ha ha.", "1888 and 1888 and 1888", "no no"):
        assert "".join(parts(text)) == text
