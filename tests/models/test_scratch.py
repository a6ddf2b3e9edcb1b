"""Scratch models: a conversation turn by turn is the whole one, and what is saved is what is loaded."""

import json
from pathlib import Path

import pytest
import torch

from memspan.errors import UsageError
from memspan.mechanisms import MECHANISMS, window_only
from memspan.models.folders import write_checksums
from memspan.models.generate import Sampling, continue_text
from memspan.models.saved import open_model
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.state import tensors

LAYERS = [[window_only(8), {"name": "delta"}], [{"name": "lstm"}]]


def make(**changes: object) -> ScratchModel:
    torch.manual_seed(0)
    return ScratchModel(ScratchConfig(**{"vocabulary": 20, "width": 16, "layers": LAYERS, **changes})).eval()


def turns(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(20, (1, length), generator=generator) for length in lengths]


def test_a_conversation_turn_by_turn_is_the_whole_one() -> None:
    model, state, talk = make(), make().init_hidden(), []
    for turn in turns(5, 1, 9):
        answer, state = continue_text(model, turn, state, Sampling(max_new_tokens=6))
        assert answer.shape == (1, 6)
        talk += [turn, answer]
    whole = torch.cat(talk, 1)
    logits, after = model(whole)
    for by_turns, whole_state in zip(tensors(state), tensors(after), strict=True):
        torch.testing.assert_close(by_turns, whole_state, rtol=1e-4, atol=1e-5)
    likeliest = logits.argmax(2)[0, :-1]
    start = 0
    for turn, answer in zip(talk[::2], talk[1::2], strict=True):
        start += turn.shape[1]
        assert torch.equal(likeliest[start - 1 : start + 5], answer[0])
        start += answer.shape[1]
    forgetful, _ = model(talk[-2])
    assert not torch.allclose(forgetful[:, -1], logits[:, -7], atol=1e-3)


def test_generation_stops_and_is_repeatable() -> None:
    model, (ids,) = make(), turns(5)
    rows = torch.cat([ids, ids.flip(1), ids + 1 - ids], 0)
    free, _ = continue_text(model, rows, None, Sampling(max_new_tokens=8, temperature=1.0, seed=3))
    again, _ = continue_text(model, rows, None, Sampling(max_new_tokens=8, temperature=1.0, seed=3))
    assert torch.equal(free, again)
    assert len({tuple(row) for row in free.tolist()}) == 3
    stop = int(free[0, 2])
    alone, state = continue_text(model, ids, None, Sampling(max_new_tokens=8), stop=range(20))
    assert alone.shape == (1, 1)
    stopped, _ = continue_text(model, rows, None, Sampling(max_new_tokens=8, temperature=1.0, seed=3), stop=[stop])
    first = free[0].tolist().index(stop)
    assert stopped[0, : first + 1].tolist() == free[0, : first + 1].tolist()
    assert set(stopped[0, first:].tolist()) == {stop}
    with pytest.raises(UsageError, match="with at least one token"):
        continue_text(model, ids[:, :0], state)


@pytest.mark.parametrize("tie_embeddings", [True, False])
def test_saving_changes_nothing(tie_embeddings: bool, tmp_path: Path) -> None:
    model = make(tie_embeddings=tie_embeddings)
    model.save_pretrained(tmp_path)
    for again in (ScratchModel.from_pretrained(tmp_path), open_model(tmp_path)):
        ids = torch.arange(12)[None]
        assert torch.equal(again.eval()(ids)[0], model(ids)[0])
    assert (again.head.weight is again.backbone.embedding.weight) == tie_embeddings


def test_wrong_folders(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model was saved there"):
        ScratchModel.from_pretrained(tmp_path)
    make().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for change, sentence in (
        ({"model": "seq2seq"}, "must hold a model of the kind 'scratch', got 'seq2seq'"),
        ({"width": 32}, "another configuration"),
        ({"depth": 1}, "does not describe a model of this version"),
    ):
        path.write_text(json.dumps({**config, **change}))
        write_checksums(tmp_path)
        with pytest.raises(UsageError, match=sentence):
            ScratchModel.from_pretrained(tmp_path)
    path.write_text(json.dumps({**config, "model": "oracle"}))
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match=r"must be one of classifier, .*scratch, .*seq2seq, .*got 'oracle'"):
        open_model(tmp_path)
    path.write_text("{")
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match="damaged"):
        open_model(tmp_path)
    path.write_text(json.dumps(config))
    write_checksums(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match="cannot be read"):
        ScratchModel.from_pretrained(tmp_path)


def behind_padding(model: torch.nn.Module, lengths: list[int], cut: int) -> None:
    """Rows of these lengths in one batch, padded on the left and read in segments, give what each gives alone."""
    generator, total = torch.Generator().manual_seed(2), max(lengths)
    texts = [torch.randint(1, 20, (1, length), generator=generator) for length in lengths]
    ids = torch.cat([torch.cat([text.new_zeros(1, total - text.shape[1]), text], 1) for text in texts])
    more = torch.randint(1, 20, (len(lengths), 7), generator=generator)
    logits, state = [], None
    with torch.no_grad():
        for segment in torch.split(ids, cut, 1):
            part, state = model(segment, state)
            logits.append(part)
        together, (after, _) = torch.cat(logits, 1), model(more, state)
        for row, text in enumerate(texts):
            expected, state = model(text)
            torch.testing.assert_close(together[row, total - text.shape[1] :], expected[0], rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(after[row], model(more[row : row + 1], state)[0][0], rtol=1e-9, atol=1e-9)


SMALL = {
    "associative": {"block": 8, "window": 16},
    "autoencoder": {"segment": 8, "rate": 2},
    "bidirectional": {"segment": 8},
    "compressed": {"block": 4, "rate": 2, "slots": 8},
    "gist": {"block": 8, "window": 16, "slots": 4},
    "hierarchical": {"segment": 8},
    "ltm": {"segment": 8, "latents": 4},
    "memory_tokens": {"segment": 8, "tokens": 2},
    "neural": {"segment": 8},
    "retrieval": {"block": 4, "top": 1},
    "segment": {"segment": 8},
    "sink_window": {"sinks": 2, "window": 16, "block": 8},
}


@pytest.mark.parametrize("name", sorted(MECHANISMS))
def test_a_row_behind_padding_is_what_it_is_alone(name: str) -> None:
    layers = [[window_only(8), {"name": name, **SMALL.get(name, {})}], [{"name": name, **SMALL.get(name, {})}]]
    model = make(padding=0, layers=layers, causal=False).double()
    behind_padding(model, [40, 9, 26, 1], cut=40)
    if model.backbone.layers[0][1].mechanism.causal:
        behind_padding(model, [40, 9, 26, 1], cut=16)


def test_without_an_id_of_padding_every_token_is_read() -> None:
    with pytest.raises(AssertionError, match="not close"):
        behind_padding(make().double(), [40, 9], cut=40)


def test_language_is_modelled_from_left_to_right() -> None:
    with pytest.raises(UsageError, match="must be causal, got Bidirectional"):
        make(layers=[[{"name": "bidirectional"}]])
