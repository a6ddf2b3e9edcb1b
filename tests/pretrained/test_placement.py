"""Models whose layers accelerate has spread over devices: they read, search and answer as on one device."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.utils import OffloadedWeightsLoader

from memspan import LanguageModel, Memory, Sampling, attached
from memspan.errors import UsageError
from memspan.memory.index.calibration import RetrievalHeads
from memspan.pretrained import hub
from memspan.pretrained.decoding import shared_copy
from memspan.pretrained.placement import input_device, is_spread, kept_by_hooks
from tests.tiny import logbook

PARTS = ("model.embed_tokens", "model.layers.0", "model.layers.1", "model.norm", "model.rotary_emb", "lm_head")
# The disk is a second device: weights that lie there are on the device "meta" but for the time of a forward pass.
MAPS = {
    "the first layer": {part: "disk" if part in PARTS[:2] else "cpu" for part in PARTS},
    "everything": {"": "disk"},
}
QUESTION = "What was the weather on the gallery?"


def loaded(folder: Path, device: str | Mapping[str, str], heads: tuple[tuple[int, int], ...]) -> LanguageModel:
    model = hub.load(str(folder), device=device, dtype="float32")
    heads_ = RetrievalHeads(heads, 1.0, 1.0)
    return LanguageModel(model.model, model.tokenizer, name="tiny", heads=heads_, identity=model.identity)


def keys_of(memory: Memory) -> np.ndarray:
    return np.concatenate([block.keys for block in memory.blocks()])


@pytest.mark.parametrize("on_disk", MAPS)
def test_a_spread_model_reads_and_answers_as_on_one_device(tiny_model: Path, on_disk: str) -> None:
    heads, sampling = ((0, 1), (1, 0), (1, 3)), Sampling(max_new_tokens=12)
    plain, spread = loaded(tiny_model, "cpu", heads), loaded(tiny_model, MAPS[on_disk], heads)
    assert is_spread(spread.causal_lm)
    assert not is_spread(plain.causal_lm)
    assert any(parameter.device.type == "meta" for parameter in spread.causal_lm.parameters())
    assert input_device(spread.causal_lm) == torch.device("cpu")
    assert spread.fingerprint == plain.fingerprint
    memories = [lm.read(logbook()[:3000], source="book") for lm in (plain, spread)]
    np.testing.assert_array_equal(*map(keys_of, memories))
    expected = plain.search(memories[0], QUESTION, rerank=8)
    assert [(found.number, pytest.approx(found.score, abs=1e-3)) for found in expected] == [
        (found.number, found.score) for found in spread.search(memories[1], QUESTION, rerank=8)
    ]
    answers = [lm.ask(memories[0], QUESTION, sampling=sampling) for lm in (plain, spread)]
    assert answers[0].text == answers[1].text
    assert any(parameter.device.type == "meta" for parameter in spread.causal_lm.parameters())


def test_a_spread_model_can_be_given_a_memory(tiny_model: Path) -> None:
    ids = torch.arange(24).view(2, 12) + 5
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    logits = []
    for device in ("cpu", MAPS["the first layer"]):
        with attached(
            hub.load(str(tiny_model), device=device, dtype="float32").model, "sink_window", window=4, block=4
        ) as model:
            output = model(ids, attention_mask=mask)
            logits.append(model(ids, past_key_values=output.past_key_values).logits.detach())
    torch.testing.assert_close(*logits, atol=1e-5, rtol=1e-5)


def test_reading_loads_no_layer_above_the_heads(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lm = loaded(tiny_model, MAPS["everything"], ((0, 1),))
    names: list[str] = []
    load = OffloadedWeightsLoader.__getitem__
    monkeypatch.setattr(
        OffloadedWeightsLoader, "__getitem__", lambda self, name: names.append(name) or load(self, name)
    )
    memory = lm.read("The lamp is lit at dusk.", source="note")
    assert {name.split(".")[1] for name in names} == {"embed_tokens", "layers"}
    assert not [name for name in names if ".layers.1." in name]
    names.clear()
    lm.ask(memory, "When is the lamp lit?", sampling=Sampling(max_new_tokens=1))
    assert [name for name in names if ".layers.1." in name]


def test_a_copy_shares_the_weights_that_the_hooks_hold(tiny_model: Path) -> None:
    model = hub.load(str(tiny_model), device=MAPS["everything"], dtype="float32").model
    kept = kept_by_hooks(model)
    assert kept
    assert [id(value) for value in kept_by_hooks(shared_copy(model))] == [id(value) for value in kept]


def test_where_one_device_is_enough_auto_leaves_the_model_on_it(tiny_model: Path) -> None:
    model = hub.load(str(tiny_model), device="auto", dtype="float32").model
    assert not is_spread(model)
    assert model.device == hub.device_of(None)


@pytest.mark.parametrize(
    ("device", "reason"),
    [
        ({"model.embed_tokens": "cpu", "lm_head": "disk"}, "cannot be loaded: .*model.layers"),
        ({"": "toaster"}, "device must be one that torch has, such as cpu or cuda, or auto, got 'toaster'"),
        (3.5, "must be the name of a device, such as cpu or cuda, or a map of modules to devices"),
    ],
)
def test_a_map_that_fits_no_model_is_refused_in_a_sentence(tiny_model: Path, device: object, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        hub.load(str(tiny_model), device=device)  # type: ignore[arg-type]
