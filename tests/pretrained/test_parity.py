"""An attached model that forgets nothing says what the plain model says: in every family, however it is called."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel, StaticCache
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from memspan.errors import UnsupportedModel, UsageError
from memspan.mechanisms.sink_window import SinkWindow
from memspan.pretrained import attach as huggingface
from memspan.pretrained.attach import (
    MemoryCache,
    attached,
    check_parity,
    parity_difference,
    repositions,
    why_unsupported,
)
from memspan.pretrained.families import FAMILIES, Tier
from tests.pretrained.tiny import CACHE, SLIDING, VARIANTS, VOCABULARY, random_ids, tiny_config, tiny_model

SUPPORTED = [name for name, family in FAMILIES.items() if family.tier is not Tier.UNSUPPORTED]
NAMES = [name for name in [*SUPPORTED, *VARIANTS] if VARIANTS.get(name, (name,))[0] in CONFIG_MAPPING]
DIFFERENT = ["llama", "gemma3_text", "gpt_oss", "gpt_neox", "smollm3", "gpt2", "opt"]  # one of each kind
UNEVEN = [17, 1, 40, 2, 30]
EVERYTHING: dict[str, Any] = {"window": None}
NARROW: dict[str, Any] = {"sinks": 2, "window": 32, "block": 8}


def read(model: Any, ids: Tensor, pieces: list[int], cache: Any = None, **inputs: Any) -> tuple[Tensor, Any]:
    """The logits of `ids`, read in pieces of these lengths, and the cache after them."""
    logits = []
    for piece in ids.split(pieces, dim=1):
        output = model(piece, **{CACHE: cache}, **inputs)
        cache = output.past_key_values
        logits.append(output.logits)
    return torch.cat(logits, 1), cache


def tolerance(model: Any, ids: Tensor, plain: Tensor) -> float:
    """1e-5, or what the model's own cache does to its logits where that is more."""
    return max(1e-5, 2 * float((read(model, ids, UNEVEN)[0] - plain).abs().max()))


def left_padded(texts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Texts (T,) of different lengths as a batch, and its attention_mask."""
    longest = max(map(len, texts))
    ids, mask = torch.zeros(len(texts), longest, dtype=torch.int64), torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in enumerate(texts):
        ids[row, longest - len(text) :], mask[row, longest - len(text) :] = text, 1
    return ids, mask


def ragged(*lengths: int) -> list[Tensor]:
    return [random_ids(1, length, seed=length)[0] for length in lengths]


@contextmanager
def left_as_it_was(model: PreTrainedModel) -> Iterator[None]:
    base = model.base_model.get_decoder()
    ids, rotary, attention = random_ids(2, 20), getattr(base, "rotary_emb", None), model.config._attn_implementation
    before = model(ids).logits
    yield
    assert torch.equal(model(ids).logits, before)
    assert getattr(base, "rotary_emb", None) is rotary
    assert model.config._attn_implementation == attention
    assert not base._forward_pre_hooks
    assert not base._forward_hooks


# ---- every family


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_whole_and_in_pieces(name: str) -> None:
    model, ids = tiny_model(name), random_ids(1, sum(UNEVEN))
    plain = model(ids, use_cache=False).logits
    allowed = tolerance(model, ids, plain)
    with left_as_it_was(model), attached(model, **EVERYTHING):
        whole, _ = read(model, ids, [ids.shape[1]])
        pieces, cache = read(model, ids, UNEVEN)
        assert (whole - plain).abs().max() < allowed
        assert (pieces - plain).abs().max() < allowed
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
def test_generate_says_the_same(name: str) -> None:
    model = tiny_model(name)
    ids, mask = left_padded(ragged(SLIDING + 10, 9))
    plain = model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False)
    with attached(model, **EVERYTHING):
        assert torch.equal(model.generate(ids, attention_mask=mask, max_new_tokens=10, do_sample=False), plain)


@pytest.mark.parametrize("name", NAMES)
def test_the_tier_says_whether_keys_are_placed_anew(name: str) -> None:
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
        as_one = model.generate(talk, **{CACHE: turn.past_key_values}, **options)
        # The last generated token was not read: it leads the new ids.
        unread = talk[:, again.past_key_values.get_seq_length() :]
        new_only = model.generate(
            unread, **{CACHE: again.past_key_values}, attention_mask=torch.ones_like(talk), **options
        )
    assert torch.equal(as_one.sequences[:, talk.shape[1] :], whole)
    assert torch.equal(new_only.sequences[:, unread.shape[1] :], whole)
    assert as_one.past_key_values is turn.past_key_values
    assert as_one.past_key_values.get_seq_length() == talk.shape[1] + 5


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
    spoken = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False)
    with attached(model, **EVERYTHING) as same:
        assert same is model
        assert (read(model, ids, UNEVEN)[0] - plain).abs().max() < 1e-5
        assert torch.equal(model.generate(input_ids=ids, max_new_tokens=8, do_sample=False), spoken)
    assert torch.equal(model(ids, use_cache=False).logits, plain)


@pytest.mark.parametrize("name", DIFFERENT)
def test_in_bfloat16(name: str) -> None:
    model = tiny_model(name, torch.bfloat16)
    check_parity(model)
    with attached(model, **NARROW), torch.inference_mode():
        logits, cache = read(model, random_ids(2, 100), [50, 50])
    assert logits.isfinite().all()
    assert {state["k"].dtype for state in cache.states} == {torch.bfloat16}


# ---- with a bounded memory


@pytest.mark.parametrize("name", DIFFERENT)
@torch.no_grad()
def test_with_a_narrow_window_the_cuts_do_not_matter(name: str) -> None:
    model, ids = tiny_model(name), random_ids(2, 150)
    with attached(model, **NARROW):
        whole, cache = read(model, ids, [150])
        pieces, other = read(model, ids, [60, 1, 1, 30, 58])
        assert (whole - pieces).abs().max() < 1e-5
        assert cache.nbytes == other.nbytes
        longer = read(model, ids, [150], cache)[1]
        assert (
            longer.nbytes <= max(NARROW["window"] + NARROW["sinks"], 1) * cache.nbytes / cache.states[0]["k"].shape[2]
        )
    plain = model(ids).logits
    assert (whole[:, :32] - plain[:, :32]).abs().max() < 1e-5  # nothing had to leave yet
    assert (whole[:, 60:] - plain[:, 60:]).abs().max() > 1e-3


@pytest.mark.parametrize("name", DIFFERENT)
@torch.no_grad()
def test_with_a_narrow_window_padding_does_not_matter(name: str) -> None:
    model, texts = tiny_model(name), ragged(70, 9, 45)
    more = random_ids(3, 50)
    ids, mask = left_padded(texts)
    with attached(model, **NARROW):
        _, cache = read(model, ids, [ids.shape[1]], attention_mask=mask)
        together, _ = read(model, more, [1, 20, 29], cache)
        for row, text in enumerate(texts):
            alone, _ = read(model, torch.cat([text, more[row]])[None], [len(text) + 50])
            assert (together[row] - alone[0, -50:]).abs().max() < 1e-5


@torch.no_grad()
def test_long_rope_is_scaled_for_the_text_not_for_the_window() -> None:
    """The window reaches beyond the first trained positions; a text that does not must not be read as one that does."""
    model, ids = tiny_model("phi3 (long rope)"), random_ids(1, 100)
    with attached(model, sinks=0, window=192, block=64):
        logits, _ = read(model, ids, [*UNEVEN[:3], 42])
    assert (logits - model(ids).logits).abs().max() < 1e-5


@torch.no_grad()
def test_one_mechanism_per_layer() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 88)
    with attached(model, [SinkWindow(window=None)] * 3 + [SinkWindow(2, 16, 8)]):
        _, cache = read(model, ids, [40, 48])
    assert [state["k"].shape[2] for state in cache.states] == [88, 88, 88, 2 + 16]


# ---- training


def checkpointing(model: PreTrainedModel, on: bool) -> None:
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # its older name
    getattr(model, f"{kind}_checkpointing_{'enable' if on else 'disable'}")()


@pytest.mark.parametrize("name", DIFFERENT)
def test_gradients_equal_the_plain_models_also_with_activation_checkpointing(name: str) -> None:
    ids = random_ids(2, 60)

    def gradients(model: PreTrainedModel, pieces: list[int]) -> list[Tensor]:
        model.zero_grad()
        logits, _ = read(model, ids, pieces)
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    model = tiny_model(name).requires_grad_(True).train()
    plain = gradients(model, [60])
    for settings, expected in ((EVERYTHING, plain), (NARROW, None)):
        with attached(model, **settings):
            through_pieces = gradients(model, [25, 35])
            checkpointing(model, True)
            checkpointed = gradients(model, [25, 35])
            checkpointing(model, False)
        for one, other in zip(checkpointed, through_pieces, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        for one, other in zip(through_pieces, expected or through_pieces, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_replayed_forward_rotates_as_it_did() -> None:
    """By the time of the backward pass the cache has read on, beyond where long rope changes its frequencies."""
    model, ids = tiny_model("phi3 (long rope)").requires_grad_(True).train(), random_ids(1, 160)
    gradients = []
    with attached(model, **EVERYTHING):
        for on in (False, True):
            checkpointing(model, on)
            model.zero_grad()
            read(model, ids, [100, 60])[0].square().mean().backward()
            gradients.append(model.model.layers[0].self_attn.qkv_proj.weight.grad.clone())
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", ["llama", "gpt_oss"])
def test_dropout_of_the_attention_is_kept(name: str) -> None:
    model, ids = tiny_model(name).train(), random_ids(1, 30)
    for module in model.modules():
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.5
    with attached(model, **EVERYTHING), torch.no_grad():
        once, _ = read(model, ids, [29, 1])
        again, _ = read(model, ids, [29, 1])
        assert (once - again)[:, 1:-1].abs().max() > 1e-4
        assert (once - again)[:, -1].abs().max() > 1e-4
        model.eval()
        assert torch.equal(read(model, ids, [29, 1])[0], read(model, ids, [29, 1])[0])


def test_what_was_worked_out_in_inference_mode_serves_training() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 60)
    with attached(model, **NARROW):
        with torch.inference_mode():
            read(model, ids, [60])
            read(model, ids, [1] * 60)
        model.requires_grad_(True)
        read(model, ids, [60])[0].sum().backward()
        read(model, ids, [1] * 60)[0].sum().backward()


# ---- requests are strangers


@torch.no_grad()
def test_interleaved_requests_get_their_own_answers() -> None:
    """64 requests in turns on one model, every one with other tokens and cuts, say what each says alone."""
    model, requests = tiny_model("llama"), [random_ids(1, 90, seed=seed) for seed in range(64)]
    cuts = [[30 + seed % 7, 1, 20, 39 - seed % 7] for seed in range(64)]
    with attached(model, **NARROW):
        alone = [read(model, ids, pieces)[0] for ids, pieces in zip(requests, cuts, strict=True)]
        waiting = [list(ids.split(pieces, 1)) for ids, pieces in zip(requests, cuts, strict=True)]
        caches: list[Any] = [None] * 64
        said: list[list[Tensor]] = [[] for _ in requests]
        order = torch.Generator().manual_seed(0)
        while any(waiting):
            for number in torch.randperm(64, generator=order).tolist():
                if waiting[number]:
                    output = model(waiting[number].pop(0), **{CACHE: caches[number]})
                    caches[number] = output.past_key_values
                    said[number].append(output.logits)
    for pieces, logits in zip(said, alone, strict=True):
        assert torch.equal(torch.cat(pieces, 1), logits)
    assert len({id(cache) for cache in caches}) == 64


def test_two_threads_get_their_own_answers() -> None:
    model = tiny_model("gemma3_text")
    prompts = [random_ids(1, 40, seed=seed) for seed in range(16)]

    def answer(prompt: Tensor) -> Tensor:
        return model.generate(prompt, max_new_tokens=12, do_sample=False)

    with attached(model, **NARROW):
        alone = [answer(prompt) for prompt in prompts]
    with (
        attached(model, **NARROW),
        ThreadPoolExecutor(2) as pool,
    ):  # fresh tables: they are made by both threads at once
        together = list(pool.map(answer, prompts))
    for one, other in zip(together, alone, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_a_failing_forward_leaves_the_cache_as_it_was() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 90)

    def fail(*_: Any) -> None:
        raise MemoryError("no room")

    with attached(model, **NARROW):
        expected, _ = read(model, ids, [50, 40])
        _, cache = read(model, ids[:, :50], [50])
        before = cache.states
        handle = model.model.layers[-1].mlp.register_forward_hook(fail)
        with pytest.raises(MemoryError):
            model(ids[:, 50:], **{CACHE: cache})
        handle.remove()
        assert cache.states is before
        assert cache.get_seq_length() == 50
        logits, _ = read(model, ids[:, 50:], [40], cache)
    assert torch.equal(logits, expected[:, 50:])


# ---- leaving


@pytest.mark.parametrize("name", DIFFERENT)
@torch.no_grad()
def test_the_model_is_what_it_was_after_an_exception_too(name: str) -> None:
    model = tiny_model(name)
    with left_as_it_was(model), pytest.raises(UsageError), attached(model, **NARROW):
        model(random_ids(1, 10), output_attentions=True)


def test_a_refused_model_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "FAMILIES", {})
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
        ("mamba", "another kind"),
        ("deepseek_v3", "compressed keys"),
        ("jamba", "another kind"),
        ("llama4_text", "chunked"),
        ("t5", "encoder-decoder"),
        ("gpt_neo", "AttentionInterface"),
        ("stablelm", "fails with a memory attached"),
        ("cohere2", "logits differ"),
        ("hunyuan_v1_dense", "logits differ"),
    ],
)
def test_without_the_table_the_model_itself_is_tried(name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "FAMILIES", {})
    assert reason in refusal(tiny_model(name))


@torch.no_grad()
def test_an_unlisted_family_that_passes_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface, "FAMILIES", {})
    model = tiny_model("smollm3").train()
    with attached(model, **NARROW):
        assert model.training
        model(random_ids(1, 5))


def test_bidirectional_decoders_are_refused() -> None:
    model = tiny_model("llama")
    model.config.is_causal = False
    assert "both ways" in refusal(model)


@pytest.mark.parametrize("model", [torch.nn.Linear(2, 2), tiny_model("llama").model], ids=["no transformer", "no head"])
def test_what_is_no_language_model_is_refused(model: torch.nn.Module) -> None:
    with (
        pytest.raises(UsageError, match="is not a transformers model with a language-modelling head"),
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
            with pytest.raises(UsageError, match="does not hold this memory"):
                model(ids, **{CACHE: cache})
        with pytest.raises(UsageError, match="1 rows and 4 layers; this call has 2 rows"):
            model(random_ids(2, 3), **{CACHE: model(ids).past_key_values})
        with pytest.raises(UsageError, match="of None rows and 3 layers"):
            model(ids, **{CACHE: MemoryCache([SinkWindow()] * 3)})


@torch.no_grad()
def test_masks_that_say_more_than_padding_are_refused() -> None:
    model, ids = tiny_model("llama"), random_ids(1, 10)
    with attached(model, **NARROW):
        with pytest.raises(UsageError, match="2D attention_mask"):
            model(ids, attention_mask=torch.ones(1, 1, 10, 10))
        with pytest.raises(UsageError, match="describes 12 tokens, but 10 are new and 0 were read"):
            model(ids, attention_mask=torch.ones(1, 12))


def test_what_cannot_be_cropped_refuses_assistants() -> None:
    model, assistant, ids = tiny_model("llama"), tiny_model("llama"), random_ids(1, 10)
    with attached(model, **NARROW):
        with pytest.raises(UsageError, match="cannot be cropped"):
            model.generate(ids, assistant_model=assistant, max_new_tokens=6)
        with pytest.raises(UsageError, match="cannot be cropped"):
            model.generate(ids.repeat(1, 3), prompt_lookup_num_tokens=2, max_new_tokens=6)
        with pytest.raises(UsageError, match="cannot be cropped"):
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
    with attached(model, **NARROW), pytest.raises(UsageError, match="nothing to read"):
        model(attention_mask=torch.ones(1, 3))


@torch.no_grad()
def test_a_part_of_the_model_called_alone_is_refused() -> None:
    model = tiny_model("llama")
    hidden = torch.zeros(1, 3, 32)
    with attached(model, **NARROW), pytest.raises(UsageError, match="called around"):
        model.model.layers[0](hidden, position_embeddings=(torch.ones(1, 3, 8), torch.zeros(1, 3, 8)))


@pytest.mark.parametrize(
    ("mechanism", "settings", "message"),
    [
        ("nothing", {}, "no mechanism 'nothing'"),
        ("delta", {}, "'delta' works on hidden states"),
        ("sink_window", {"widnow": 8}, "no setting 'widnow'; it knows sinks, window, block"),
        ("sink_window", {"window": 256}, "places 260 tokens side by side, more than the 256"),
        ("sink_window", {"window": 100, "block": 64}, "cannot be"),
        (SinkWindow(), {"window": 8}, "go with the name of a mechanism"),
        ([SinkWindow(window=None)] * 3, {}, "4 layers, but 3 mechanisms"),
    ],
)
def test_settings_that_cannot_be(mechanism: Any, settings: dict[str, Any], message: str) -> None:
    model = tiny_model("llama")
    with left_as_it_was(model), pytest.raises(UsageError, match=message), attached(model, mechanism, **settings):
        pass


# ---- the cache


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_rows_of_a_cache_can_be_chosen_and_repeated(name: str) -> None:
    model, texts, more = tiny_model(name), ragged(60, 41), random_ids(1, 5)
    ids, mask = left_padded(texts)
    with attached(model, **NARROW):
        _, cache = read(model, ids, [60], attention_mask=mask)
        cache.batch_repeat_interleave(2)  # rows 0 0 1 1
        cache.batch_select_indices(torch.tensor([3, 0]))
        chosen, _ = read(model, more.expand(2, -1), [5], cache)
        for row, text in enumerate((texts[1], texts[0])):
            alone, _ = read(model, torch.cat([text, more[0]])[None], [len(text) + 5])
            assert (chosen[row] - alone[0, -5:]).abs().max() < 1e-5
        cache.reset()
        assert cache.get_seq_length() == cache.nbytes == 0
        assert torch.equal(read(model, ids[:1], [60], cache)[0], read(model, ids[:1], [60])[0])


def test_layers_share_what_they_count_alike() -> None:
    """Else every layer would work it out again, for every token that is generated."""
    model = tiny_model("llama")
    ids, mask = left_padded(ragged(60, 41))
    with attached(model, **NARROW):
        for options in ({}, {"num_beams": 2}):
            turn = model.generate(
                ids, attention_mask=mask, max_new_tokens=5, do_sample=False, return_dict_in_generate=True, **options
            )
            assert len({id(state["place"]) for state in turn.past_key_values.states}) == 1


def test_parity_difference_sees_a_model_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("llama")
    assert parity_difference(model) < 1e-5
    monkeypatch.setattr(huggingface, "_turn", lambda _: lambda x, cos, sin: x)
    assert parity_difference(model) > 1e-2
    with pytest.raises(UnsupportedModel, match="fails the self-test"):
        check_parity(model)


def test_the_table_of_families_is_sorted_and_says_why() -> None:
    assert list(FAMILIES) == sorted(FAMILIES)
    assert all(family.notes for family in FAMILIES.values() if family.tier is not Tier.FULL)
    assert not any(family.notes.endswith(".") for family in FAMILIES.values())
    assert why_unsupported(tiny_model("llama")) is None
    assert tiny_config("llama").vocab_size == VOCABULARY
