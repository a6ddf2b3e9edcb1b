"""Sequence to sequence: whatever the bridge, the target depends on the source, in chunks as in one, and can be learned."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from memspan.errors import UsageError
from memspan.models.generate import Sampling, continue_text
from memspan.models.saved import open_model
from memspan.models.seq2seq import Seq2Seq, Seq2SeqConfig

BEGIN, END = 10, 11
GENERATOR = torch.Generator().manual_seed(0)
SOURCE = torch.randint(0, 10, (4, 6), generator=GENERATOR)
TARGET = torch.cat([torch.full((4, 1), BEGIN), SOURCE.flip(1), torch.full((4, 1), END)], 1)  # the source backwards
MODELS = {
    "recurrent": {"layers": [[{"name": "lstm"}]], "bridge": "state", "reverse": True},
    "associative": {"layers": [[{"name": "delta"}]], "bridge": "state"},
    "attention": {"layers": [[{"name": "delta"}]], "decoder_layers": [[{"name": "attention"}], [{"name": "gru"}]]},
    "bidirectional": {"layers": [[{"name": "bidirectional"}]], "decoder_layers": [[{"name": "lstm"}]]},
}


def make(name: str, **changes: object) -> Seq2Seq:
    torch.manual_seed(0)
    return Seq2Seq(Seq2SeqConfig(**{"vocabulary": 12, "width": 16, **MODELS[name], **changes})).eval()


@pytest.mark.parametrize("name", MODELS)
def test_it_learns_by_heart_and_writes_what_it_learned(name: str) -> None:
    model = make(name, width=32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        logits, _ = model(TARGET[:, :-1], model.encode(SOURCE))
        cross_entropy(logits.flatten(0, 1), TARGET[:, 1:].flatten()).backward()
        optimizer.step()
    model.eval()
    begin = torch.full((4, 1), BEGIN)
    written, _ = continue_text(model, begin, model.encode(SOURCE), Sampling(max_new_tokens=12), stop=[END])
    assert torch.equal(written, TARGET[:, 1:])


@pytest.mark.parametrize("name", MODELS)
def test_the_target_in_chunks(name: str) -> None:
    model = make(name)
    state = model.encode(SOURCE)
    whole, _ = model(TARGET, state)
    chunks = []
    for chunk in TARGET.split([1, 3, 4], 1):
        logits, state = model(chunk, state)
        chunks.append(logits)
    torch.testing.assert_close(torch.cat(chunks, 1), whole, rtol=1e-4, atol=1e-5)
    again, _ = model(TARGET, model.encode(SOURCE))
    assert torch.equal(again, whole)  # the state was a value
    last, _ = model(TARGET, model.encode(SOURCE), 2)
    torch.testing.assert_close(last, whole[:, -2:], rtol=1e-4, atol=1e-5)
    other, _ = model(TARGET, model.encode((SOURCE + 1) % 10))
    assert (other - whole).abs().amax(2).min() > 1e-4


@pytest.mark.parametrize("name", ["associative", "attention"])
def test_the_source_in_segments(name: str) -> None:
    model = make(name)
    state = model.encode(SOURCE[:, 4:], model.encode(SOURCE[:, :4]))
    torch.testing.assert_close(model(TARGET, state)[0], model(TARGET, model.encode(SOURCE))[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(UsageError, match="before the target begins"):
        model.encode(SOURCE, model(TARGET, state)[1])


def test_nothing_but_the_state_crosses_the_bridge() -> None:
    state = make("recurrent").encode(SOURCE)
    assert state["source"] is None


def test_padding_is_not_attended_to() -> None:
    model = make("attention", padding=9)
    source = SOURCE % 9
    padded = torch.cat([source, torch.full((4, 3), 9)], 1)
    plain, masked = (model(TARGET, model.encode(ids))[0] for ids in (source, padded))
    torch.testing.assert_close(masked, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_saving_changes_nothing(name: str, tmp_path: Path) -> None:
    model = make(name)
    model.save_pretrained(tmp_path)
    again = Seq2Seq.from_pretrained(tmp_path).eval()
    assert torch.equal(again(TARGET, again.encode(SOURCE))[0], model(TARGET, model.encode(SOURCE))[0])
    assert isinstance(open_model(tmp_path), Seq2Seq)


def test_what_cannot_be() -> None:
    with pytest.raises(UsageError, match="bridge must be outputs or state, got 'rope'"):
        make("attention", bridge="rope")
    with pytest.raises(UsageError, match="must be those of the encoder"):
        make("attention", bridge="state")
    with pytest.raises(UsageError, match="heads must divide the width of 16, got 3"):
        make("attention", heads=3)
    model = make("recurrent")
    with pytest.raises(UsageError, match="must be that of `encode`"):
        model(TARGET)
    with pytest.raises(UsageError, match="backwards"):
        model.encode(SOURCE, model.encode(SOURCE))
    with pytest.raises(UsageError, match="must be causal"):
        make("bidirectional", decoder_layers=[])
