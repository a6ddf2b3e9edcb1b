"""What an attached model refuses, in one sentence each, and that it is left as it was."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from memspan.errors import UnsupportedModel, UsageError
from memspan.mechanisms.sink_window import SinkWindow
from memspan.pretrained.attach import attached
from memspan.pretrained.cache import MemoryCache
from memspan.pretrained.families import FAMILIES, Tier
from memspan.pretrained.support import why_unsupported
from tests.pretrained.reading import DIFFERENT, NARROW, left_as_it_was
from tests.pretrained.tiny import CACHE, VOCABULARY, random_ids, tiny_config, tiny_model


@pytest.fixture
def no_families(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(FAMILIES):
        monkeypatch.delitem(FAMILIES, name)


# ---- leaving


@pytest.mark.parametrize("name", DIFFERENT)
@torch.no_grad()
def test_the_model_is_what_it_was_after_an_exception_too(name: str) -> None:
    model = tiny_model(name)
    with left_as_it_was(model), pytest.raises(UsageError), attached(model, **NARROW):
        model(random_ids(1, 10), output_attentions=True)


def test_a_refused_model_is_what_it_was(no_families: None) -> None:
    model = tiny_model("hunyuan_v1_dense")
    with left_as_it_was(model), pytest.raises(UnsupportedModel), attached(model, **NARROW):
        pass


# ---- models that cannot be given a memory


def refusal(model: Any) -> str:
    with pytest.raises(UnsupportedModel) as raised, attached(model, **NARROW):
        pass
    message = str(raised.value)
    assert message.startswith(type(model).__name__)
    assert message.endswith(".")
    return message


@pytest.mark.parametrize(
    "name", [name for name, family in FAMILIES.items() if family.tier is Tier.UNSUPPORTED and name in CONFIG_MAPPING]
)
def test_unsupported_families_are_refused_in_one_sentence(name: str) -> None:
    message = refusal(tiny_model(name))
    assert FAMILIES[name].notes in message
    assert ". " not in message


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("bloom", "neither rotary nor learned positions"),
        ("mamba", "another type"),
        ("deepseek_v3", "compressed keys"),
        ("jamba", "another type"),
        ("llama4_text", "chunked"),
        ("t5", "encoder-decoder"),
        ("gpt_neo", "AttentionInterface"),
        ("stablelm", "fails with a memory attached"),
        ("cohere2", "logits differ"),
        ("hunyuan_v1_dense", "logits differ"),
    ],
)
def test_without_the_table_the_model_itself_is_tried(name: str, reason: str, no_families: None) -> None:
    assert reason in refusal(tiny_model(name))


@torch.no_grad()
def test_an_unlisted_family_that_passes_is_let_in(no_families: None) -> None:
    model = tiny_model("smollm3").train()
    with attached(model, **NARROW):
        assert model.training
        model(random_ids(1, 5))


def test_bidirectional_decoders_are_refused() -> None:
    model = tiny_model("llama")
    model.config.is_causal = False
    assert "attends to later tokens" in refusal(model)


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), tiny_model("llama").model], ids=["no transformer", "no head"])
def test_what_is_no_language_model_is_refused(model: torch.nn.Module) -> None:
    with (
        pytest.raises(UsageError, match="must be a transformers model with a language-modelling head"),
        attached(model, **NARROW),
    ):
        pass


# ---- wrong requests


def test_a_model_takes_one_memory_at_a_time() -> None:
    model = tiny_model("llama")
    with attached(model, **NARROW):
        with pytest.raises(UsageError, match="already has a memory"), attached(model, **NARROW):
            pass
        model(random_ids(1, 5))  # and keeps the first
    with attached(model, **NARROW):
        pass


@torch.no_grad()
def test_caches_without_this_memory_are_refused() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 10)
    filled = model(ids).past_key_values
    with attached(model, **NARROW):
        empty = DynamicCache()
        model(ids, **{CACHE: empty})
        for cache in (filled, empty, StaticCache(config=model.config, max_cache_len=20)):
            with pytest.raises(UsageError, match="without this memory"):
                model(ids, **{CACHE: cache})
        with pytest.raises(UsageError, match="2 rows and 4 layers, as this call has, got 1 rows"):
            model(random_ids(2, 3), **{CACHE: model(ids).past_key_values})
        with pytest.raises(UsageError, match="got None rows and 3 layers"):
            model(ids, **{CACHE: MemoryCache([SinkWindow()] * 3)})


@torch.no_grad()
def test_masks_of_more_than_padding_are_refused() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 10)
    with attached(model, **NARROW):
        with pytest.raises(UsageError, match="must be 2D"):
            model(ids, attention_mask=torch.ones(1, 1, 10, 10))
        with pytest.raises(UsageError, match="the 10 new tokens or all 10 tokens read so far, got 12"):
            model(ids, attention_mask=torch.ones(1, 12))


def test_what_cannot_be_cropped_refuses_assistants() -> None:
    model, assistant, ids = tiny_model("llama"), tiny_model("llama"), random_ids(1, 10)
    with attached(model, **NARROW):
        # transformers 5.24 checks the cache beforehand and raises an error of its own.
        with pytest.raises((UsageError, ValueError), match=r"cropping|cache that can be cropped"):
            model.generate(ids, assistant_model=assistant, max_new_tokens=6)
        with pytest.raises((UsageError, ValueError), match=r"cropping|cache that can be cropped"):
            model.generate(ids.repeat(1, 3), prompt_lookup_num_tokens=2, max_new_tokens=6)
        with pytest.raises(UsageError, match="does not support cropping"):
            model(ids).past_key_values.crop(-1)


@torch.no_grad()
def test_attention_weights_are_not_promised() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 10)
    with attached(model, **NARROW):
        with pytest.raises(UsageError, match="no attention weights"):
            model(ids, output_attentions=True)
        model.set_attn_implementation("eager")
        with pytest.raises(UsageError, match="attention implementation was changed"):
            model(ids)
    assert model.config._attn_implementation == "sdpa"


def test_something_must_be_given_to_read() -> None:
    model = tiny_model("llama")
    with attached(model, **NARROW), pytest.raises(UsageError, match="needs input_ids or inputs_embeds"):
        model(attention_mask=torch.ones(1, 3))


@torch.no_grad()
def test_a_part_of_the_model_called_alone_is_refused() -> None:
    model = tiny_model("llama")
    hidden = torch.zeros(1, 3, 32)
    with attached(model, **NARROW), pytest.raises(UsageError, match="must be called as a whole"):
        model.model.layers[0](hidden, position_embeddings=(torch.ones(1, 3, 8), torch.zeros(1, 3, 8)))


@pytest.mark.parametrize(
    ("mechanism", "settings", "message"),
    [
        ("nothing", {}, "no mechanism 'nothing'"),
        ("delta", {}, "'delta' works on hidden states"),
        ("sink_window", {"widnow": 8}, "no setting 'widnow'. Known: sinks, window, block"),
        ("sink_window", {"window": 256}, "at most the 256 positions .* got 260"),
        ("sink_window", {"window": 100, "block": 64}, "positive multiple of block"),
        ("sink_window", {"window": 64}, r"window=64, block=128 \(default: sinks=4, block=128\)"),
        (SinkWindow(), {"window": 8}, "go with the name of a mechanism"),
        ([SinkWindow(window=None)] * 3, {}, "must be 4, one per layer of the model, got 3"),
    ],
)
def test_settings_that_cannot_be(mechanism: Any, settings: dict[str, Any], message: str) -> None:
    model = tiny_model("llama")
    with left_as_it_was(model), pytest.raises(UsageError, match=message), attached(model, mechanism, **settings):
        pass


# ---- the table of families


def test_the_table_of_families_is_sorted_and_gives_reasons() -> None:
    assert list(FAMILIES) == sorted(FAMILIES)
    assert all(family.notes for family in FAMILIES.values() if family.tier is not Tier.FULL)
    assert not any(family.notes.endswith(".") for family in FAMILIES.values())
    assert why_unsupported(tiny_model("llama")) is None
    assert tiny_config("llama").vocab_size == VOCABULARY
