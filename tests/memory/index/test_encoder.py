"""Encoding: passages tile text and tokens, and how a text is cut does not change what is kept of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, AutoTokenizer

from memspan.errors import MemspanError, UsageError
from memspan.memory.index import encoder as reading
from memspan.memory.index.encoder import KeyEncoder
from memspan.pretrained.heads import HeadReader
from tests.tiny import logbook

HEADS = ((0, 1), (1, 0), (1, 3))


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> KeyEncoder:
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    return KeyEncoder(HeadReader(model), AutoTokenizer.from_pretrained(tiny_model), HEADS)


@given(text=st.text(st.sampled_from("ab é\n.。!我们🙂 \t"), min_size=1, max_size=400))
@settings(max_examples=40, deadline=None)
def test_passages_tile_text_and_tokens(encoder: KeyEncoder, text: str) -> None:
    encoded = encoder.encode(text)
    rows = encoded.passages
    assert rows[0, 0] == 0
    assert rows[0, 2] == 0
    assert rows[-1, 1] == len(encoded.ids)
    assert rows[-1, 3] == len(text)
    assert (rows[1:, 0] == rows[:-1, 1]).all()
    assert (rows[1:, 2] == rows[:-1, 3]).all()
    assert (rows[:, 1] > rows[:, 0]).all() or len(encoded.ids) == 0


class Reading:
    """A reader without a model: keys are zeros."""

    device, head_size, scale = torch.device("cpu"), 4, 1.0

    def key_head(self, head: tuple[int, int]) -> tuple[int, int]:
        return head

    def keys(self, rows: torch.Tensor, heads: tuple[tuple[int, int], ...]) -> torch.Tensor:
        return torch.zeros(*rows.shape, len(heads), 4)


class LongToken:
    """A tokenizer of single characters, but for a last token of many sentences."""

    is_fast = True
    bos_token_id = eos_token_id = pad_token_id = 0
    backend_tokenizer = Tokenizer(models.BPE())

    def __call__(self, text: str, **_: object) -> dict[str, list]:
        offsets = [(index, index + 1) for index in range(2000)] + [(2000, len(text))]
        return {"input_ids": [1] * len(offsets), "offset_mapping": offsets}


def test_a_passage_in_which_no_token_ends_is_joined_to_its_neighbour() -> None:
    text = "It rains. " * 600
    encoded = KeyEncoder(Reading(), LongToken(), [(0, 0)]).encode(text)  # type: ignore[arg-type]
    rows = encoded.passages
    assert len(rows) > 2
    assert (rows[:, 1] > rows[:, 0]).all()
    assert (rows[1:, 2] == rows[:-1, 3]).all()
    assert (rows[0, 2], rows[-1, 3], rows[-1, 1]) == (0, len(text), 2001)


def test_kept_keys_are_those_of_segments_with_their_past(encoder: KeyEncoder) -> None:
    """Naive: every segment by itself, one token of past at a time."""
    text = logbook()[:6000]
    encoded = encoder.encode(text)
    ids = encoded.ids.tolist()
    assert len(ids) > 2 * reading.SEGMENT
    fresh = reading.SEGMENT - reading.CONTEXT - 1
    for start in range(0, len(ids), fresh):
        past = ids[max(0, start - reading.CONTEXT) : start]
        new = ids[start : start + fresh]
        row = torch.tensor([[encoder.sink, *past, *new]])
        expected = encoder.reader.keys(row, encoder.key_heads)[0, 1 + len(past) :].float().numpy()
        kept = encoded.keys[start : start + fresh] * encoded.scales[start : start + fresh, :, None].astype(np.float32)
        step = encoded.scales[start : start + fresh, :, None].astype(np.float32)
        assert (np.abs(kept - expected) <= step * 0.75 + 1e-5).all()


def test_a_text_in_pieces_is_read_as_the_whole(encoder: KeyEncoder) -> None:
    """With the ids before it, a second text gets the keys it has in the whole text (cut where a segment begins)."""
    text = logbook()[:6000]
    whole = encoder.encode(text)
    fresh = reading.SEGMENT - reading.CONTEXT - 1
    ends = np.array([end for _, end in encoder.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]])
    cut = int(ends[fresh - 1])
    first, second = encoder.encode(text[:cut]), encoder.encode(text[cut:], before=whole.ids[:fresh].tolist())
    assert [*first.ids, *second.ids] == whole.ids.tolist()
    np.testing.assert_array_equal(np.concatenate([first.keys, second.keys]), whole.keys)


def test_the_past_matters(encoder: KeyEncoder) -> None:
    plain, after = encoder.encode("the second part"), encoder.encode("the second part", before=[5, 6, 7])
    assert not np.array_equal(plain.keys, after.keys)


def test_questions_are_said_twice_carry_the_scale_and_lose_what_stands_before(encoder: KeyEncoder) -> None:
    question = encoder.question("Who broke the lens?")
    first, again = (encoder.tokenizer(text)["input_ids"] for text in ("Who broke the lens?", " Who broke the lens?"))
    assert question.queries.shape == (len(again), len(HEADS), encoder.reader.head_size)
    raw = encoder.reader.queries(torch.tensor([[encoder.sink, *first, *again]]), HEADS)[0, 1 + len(first) :]
    np.testing.assert_allclose(question.queries, raw.numpy() * encoder.reader.head_size**-0.5, rtol=1e-5)
    assert [encoder.key_heads[group] for group in question.groups] == [encoder.reader.key_head(head) for head in HEADS]


def test_every_token_of_a_question_knows_how_it_ends(encoder: KeyEncoder) -> None:
    one, other = (encoder.question(f"Who broke the {what}?").queries[:3] for what in ("lens", "door"))
    assert not np.allclose(one, other)


def test_a_long_question_fits_into_a_segment(encoder: KeyEncoder) -> None:
    ids, count = reading.repeated_question(encoder.tokenizer, "why " * 2000)
    assert (len(ids), count) == (reading.SEGMENT, reading.SEGMENT // 2)


def test_an_empty_question_is_refused(encoder: KeyEncoder) -> None:
    with pytest.raises(UsageError, match="empty"):
        encoder.question(" \n")


def test_numbers_that_are_not_finite_are_never_kept(tiny_model: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    model.model.layers[0].input_layernorm.weight.data.fill_(float("nan"))
    broken = KeyEncoder(HeadReader(model), AutoTokenizer.from_pretrained(tiny_model), HEADS)
    with pytest.raises(MemspanError, match="not finite"):
        broken.encode("some text")
