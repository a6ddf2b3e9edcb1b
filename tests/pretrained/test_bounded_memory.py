"""An attached model with a bounded memory: cuts, padding, training, requests side by side, and rows of its cache."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from memspan.mechanisms.sink_window import SinkWindow
from memspan.pretrained.attach import attached
from tests.pretrained.reading import DIFFERENT, EVERYTHING, NARROW, UNEVEN, left_padded, ragged, read
from tests.pretrained.tiny import CACHE, random_ids, tiny_model

# ---- with a bounded memory


@pytest.mark.parametrize("name", DIFFERENT)
@torch.no_grad()
def test_with_a_narrow_window_the_cuts_do_not_matter(name: str) -> None:
    model, ids = tiny_model(name), random_ids(2, 150)
    with attached(model, **NARROW):
        whole, cache = read(model, ids, [150])
        in_cuts, other = read(model, ids, [60, 1, 1, 30, 58])
        assert (whole - in_cuts).abs().max() < 1e-5
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

    def gradients(model: PreTrainedModel, lengths: list[int]) -> list[Tensor]:
        model.zero_grad()
        logits, _ = read(model, ids, lengths)
        torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    model = tiny_model(name).requires_grad_(True).train()
    plain = gradients(model, [60])
    for settings, expected in ((EVERYTHING, plain), (NARROW, None)):
        with attached(model, **settings):
            in_chunks = gradients(model, [25, 35])
            checkpointing(model, True)
            checkpointed = gradients(model, [25, 35])
            checkpointing(model, False)
        for again, once in zip(checkpointed, in_chunks, strict=True):
            torch.testing.assert_close(again, once, rtol=0, atol=1e-6)
        for chunked, whole in zip(in_chunks, expected or in_chunks, strict=True):
            torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-6)


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
    """64 requests in turns on one model, each with other tokens and cuts, get the logits that each gets alone."""
    model, requests = tiny_model("llama"), [random_ids(1, 90, seed=seed) for seed in range(64)]
    cuts = [[30 + seed % 7, 1, 20, 39 - seed % 7] for seed in range(64)]
    with attached(model, **NARROW):
        alone = [read(model, ids, lengths)[0] for ids, lengths in zip(requests, cuts, strict=True)]
        waiting = [list(ids.split(lengths, 1)) for ids, lengths in zip(requests, cuts, strict=True)]
        caches: list[Any] = [None] * 64
        logits: list[list[Tensor]] = [[] for _ in requests]
        order = torch.Generator().manual_seed(0)
        while any(waiting):
            for number in torch.randperm(64, generator=order).tolist():
                if waiting[number]:
                    output = model(waiting[number].pop(0), **{CACHE: caches[number]})
                    caches[number] = output.past_key_values
                    logits[number].append(output.logits)
    for interleaved, whole in zip(logits, alone, strict=True):
        assert torch.equal(torch.cat(interleaved, 1), whole)
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
    for concurrent, sequential in zip(together, alone, strict=True):
        assert torch.equal(concurrent, sequential)


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
            assert len({id(state["index"]) for state in turn.past_key_values.states}) == 1
