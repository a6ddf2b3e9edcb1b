"""An attached model that forgets nothing computes what the plain model computes: in every family, however it is called."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from memspan.errors import UnsupportedModel
from memspan.pretrained import hooks
from memspan.pretrained.attach import attached
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.families import FAMILIES, Tier
from memspan.pretrained.self_test import Parity, check_parity, measure_parity
from memspan.pretrained.support import repositions
from memspan.pretrained.versions import VERIFIED
from tests.pretrained.reading import (
    DIFFERENT,
    EVERYTHING,
    NARROW,
    UNEVEN,
    left_as_it_was,
    left_padded,
    ragged,
    read,
    tolerance,
)
from tests.pretrained.tiny import CACHE, SLIDING, VARIANTS, random_ids, tiny_model

SUPPORTED = [name for name, family in FAMILIES.items() if family.tier is not Tier.UNSUPPORTED]
NAMES = [name for name in [*SUPPORTED, *VARIANTS] if VARIANTS.get(name, (name,))[0] in CONFIG_MAPPING]


# ---- every family


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_whole_and_in_chunks(name: str) -> None:
    model, ids = tiny_model(name), random_ids(1, sum(UNEVEN))
    plain = model(ids, use_cache=False).logits
    allowed = tolerance(model, ids, plain)
    with left_as_it_was(model), attached(model, **EVERYTHING):
        whole, _ = read(model, ids, [ids.shape[1]])
        in_chunks, cache = read(model, ids, UNEVEN)
        assert (whole - plain).abs().max() < allowed
        assert (in_chunks - plain).abs().max() < allowed
        assert isinstance(cache, MemoryCache)
        assert cache.get_seq_length() == ids.shape[1]


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_padded_rows_equal_the_same_rows_alone(name: str) -> None:
    model, texts = tiny_model(name), ragged(40, 9, 27)
    more = random_ids(3, 12)
    ids, mask = left_padded(texts)
    with attached(model, **EVERYTHING):
        first, cache = read(model, ids, [ids.shape[1]], attention_mask=mask)
        second, _ = read(model, more, [5, 1, 6], cache)
    for row, text in enumerate(texts):
        alone = model(torch.cat([text, more[row]])[None], use_cache=False).logits[0]
        together = torch.cat([first[row, -len(text) :], second[row]])
        assert (together - alone).abs().max() < max(1e-5, 1e-4 * alone.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_generate_continues_alike(name: str) -> None:
    model = tiny_model(name)
    ids, mask = left_padded(ragged(SLIDING + 10, 9))
    plain = model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
    with attached(model, **EVERYTHING):
        assert torch.equal(model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False), plain)


@pytest.mark.parametrize("name", NAMES)
def test_the_tier_states_whether_keys_take_new_positions(name: str) -> None:
    tier = FAMILIES[VARIANTS.get(name, (name,))[0]].tier
    assert repositions(tiny_model(name)) == (tier is Tier.FULL)


# ---- every way of calling


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize("settings", [EVERYTHING, NARROW], ids=["everything", "narrow"])
def test_a_second_turn_of_generate(name: str, settings: dict[str, Any]) -> None:
    """With the new ids alone or the whole conversation; both continue what a forward over everything begins."""
    model, first, second = tiny_model(name), random_ids(1, 50), random_ids(1, 7, seed=1)
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True}
    with attached(model, "sink_window", **settings):
        turn = model.generate(first, **options)
        talk = torch.cat([turn.sequences, second], 1)
        whole = model.generate(talk, **options).sequences[:, talk.shape[1] :]
        again = model.generate(first, **options)
        at_once = model.generate(talk, **{CACHE: turn.past_key_values}, **options)
        # The last generated token was not read: it leads the new ids.
        unread = talk[:, again.past_key_values.get_seq_length() :]
        new_only = model.generate(
            unread, **{CACHE: again.past_key_values}, attention_mask=torch.ones_like(talk), **options
        )
    assert torch.equal(at_once.sequences[:, talk.shape[1] :], whole)
    assert torch.equal(new_only.sequences[:, unread.shape[1] :], whole)
    assert at_once.past_key_values is turn.past_key_values
    assert at_once.past_key_values.get_seq_length() == talk.shape[1] + 5


@torch.no_grad()
@pytest.mark.parametrize("name", DIFFERENT)
def test_the_mask_may_describe_the_new_tokens_or_all(name: str) -> None:
    model, texts, more = tiny_model(name), ragged(20, 13), random_ids(2, 5)
    ids, mask = left_padded(texts)
    full = torch.cat([mask, torch.ones_like(more)], 1)
    with attached(model, **EVERYTHING):
        by_new, _ = read(model, more, [5], model(ids, attention_mask=mask).past_key_values, attention_mask=full[:, -5:])
        by_all, _ = read(model, more, [5], model(ids, attention_mask=mask).past_key_values, attention_mask=full)
        without, _ = read(model, more, [5], model(ids, attention_mask=mask).past_key_values)
    assert torch.equal(by_new, by_all)
    assert torch.equal(by_new, without)


@pytest.mark.parametrize("name", DIFFERENT)
@pytest.mark.parametrize(
    "options",
    [
        {"num_beams": 3, "do_sample": False},
        {"num_beams": 4, "num_return_sequences": 2, "do_sample": False},
        {"do_sample": True, "num_return_sequences": 3, "temperature": 2.0},
        {"do_sample": False, "use_cache": False},
        {"do_sample": False, "prefill_chunk_size": 7},
    ],
    ids=["beams", "several beams", "samples", "no cache", "chunked prefill"],
)
def test_every_way_to_generate(name: str, options: dict[str, Any]) -> None:
    model = tiny_model(name)
    ids, mask = left_padded(ragged(SLIDING + 10, 9))

    def generated() -> Tensor:
        torch.manual_seed(3)
        return model.generate(ids, attention_mask=mask, max_new_tokens=8, **options)

    plain = generated()
    with attached(model, **EVERYTHING):
        assert torch.equal(generated(), plain)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
@torch.no_grad()
def test_embeddings_instead_of_ids(name: str) -> None:
    model, ids = tiny_model(name), random_ids(2, 30)
    embeddings = model.get_input_embeddings()(ids)
    plain = model(inputs_embeds=embeddings).logits
    with attached(model, **EVERYTHING):
        assert (model(inputs_embeds=embeddings).logits - plain).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@torch.no_grad()
def test_the_decoder_may_be_called_by_position(name: str) -> None:
    model, (ids, mask) = tiny_model(name), left_padded(ragged(12, 20))
    base = model.base_model
    with attached(model, **EVERYTHING):
        by_name = base(input_ids=ids, attention_mask=mask).last_hidden_state
        inputs = [ids, mask] if name == "llama" else [ids, None, mask]
        assert torch.equal(base(*inputs).last_hidden_state, by_name)


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing.*:FutureWarning")  # of peft about transformers
@pytest.mark.parametrize("name", DIFFERENT)
@torch.no_grad()
def test_a_lora_wrapped_model(name: str) -> None:
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2")
    model = get_peft_model(tiny_model(name), lora)
    generator = torch.Generator().manual_seed(1)
    for key, parameter in model.named_parameters():
        if "lora_B" in key:
            parameter.normal_(0, 0.1, generator=generator)
    model.eval()
    ids = random_ids(2, sum(UNEVEN))
    plain = model(ids, use_cache=False).logits
    with model.disable_adapter():
        assert (model(ids).logits - plain).abs().max() > 1e-3
    continuation = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
    with attached(model, **EVERYTHING) as same:
        assert same is model
        assert (read(model, ids, UNEVEN)[0] - plain).abs().max() < 1e-5
        assert torch.equal(model.generate(input_ids=ids, max_new_tokens=8, do_sample=False), continuation)
    assert torch.equal(model(ids, use_cache=False).logits, plain)


@pytest.mark.parametrize("name", DIFFERENT)
def test_in_bfloat16(name: str) -> None:
    model = tiny_model(name, torch.bfloat16)
    check_parity(model)
    with attached(model, **NARROW), torch.inference_mode():
        logits, cache = read(model, random_ids(2, 100), [50, 50])
    assert logits.isfinite().all()
    assert {state["k"].dtype for state in cache.states} == {torch.bfloat16}


# ---- the self-test


def test_the_self_test_sees_a_model_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    assert measure_parity(model).difference < 1e-5
    monkeypatch.setattr(hooks, "rotation_of", lambda _: lambda x, cos, sin: x)
    assert measure_parity(model).difference > 1e-2
    release = rf"\(transformers {transformers.__version__}; verified: {VERIFIED[0]} to {VERIFIED[1]}\)"
    with pytest.raises(
        UnsupportedModel, match=rf"^LlamaForCausalLM fails the self-test {release}: .* families that pass.$"
    ):
        check_parity(model)
    with pytest.raises(UnsupportedModel, match=r"^mine fails the self-test"):
        check_parity(model, "mine")


@pytest.mark.parametrize(
    ("difference", "rounding", "last_bit", "passed"),
    [
        (0.9e-4, 0, 0, True),
        (1.1e-4, 0, 0, False),
        (1.1e-4, 1e-5, 0, True),
        (1.1e-4, 0, 1e-5, True),
        (1.5e-4, 1e-5, 1e-5, False),
        (float("nan"), 1, 1, False),
    ],
)
def test_what_the_self_test_allows(difference: float, rounding: float, last_bit: float, passed: bool) -> None:
    """The larger of the two errors that the model makes without a memory."""
    assert Parity(difference, rounding, last_bit).passed == passed


def test_the_self_test_measures_what_the_models_own_cache_and_last_bit_change(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama", torch.bfloat16)
    parity = measure_parity(model)
    assert 0 < parity.rounding < 0.1
    largest = max(float(model(ids).logits.abs().max()) for ids in [(torch.arange(32) * 7919 + 11)[None] % 128])
    assert parity.last_bit == largest * 2**-7


def test_the_verified_releases_are_those_that_the_package_accepts() -> None:
    lowest, highest = VERIFIED
    major, minor = map(int, highest.split("."))
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    assert f'"transformers>={lowest},<{major}.{minor + 1}"' in project
