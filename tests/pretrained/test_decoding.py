"""Writing: the same tokens as transformers' own greedy search, whatever is reused."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from memspan.errors import UsageError
from memspan.models.generate import CYCLE_TOKENS, Sampling, ends_in_cycle
from memspan.pretrained.decoding import CompiledDecoder, Decoder, Prefix
from memspan.pretrained.packed_linear import PackedLinear, is_supported


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def run(decoder: Decoder, ids: list[int], prefix: Prefix | None = None, **sampling: float) -> tuple[list[int], Prefix]:
    stream, tokens = decoder.generate(ids, Sampling(**{"max_new_tokens": 12, **sampling}), prefix), []
    while True:
        try:
            tokens.append(next(stream))
        except StopIteration as end:
            return tokens, end.value


IDS = [(7 * index + 3) % 1900 + 5 for index in range(40)]


def test_greedy_tokens_are_those_of_transformers(model: torch.nn.Module) -> None:
    expected = model.generate(torch.tensor([IDS]), max_new_tokens=12, do_sample=False)[0, len(IDS) :].tolist()
    assert run(Decoder(model, stop=[]), IDS)[0] == expected


def test_logits_of_the_quick_attention_are_the_models_own(model: torch.nn.Module) -> None:
    decoder = Decoder(model, stop=[])
    assert decoder.model is not model
    cache = decoder.new_cache()
    with torch.inference_mode():
        decoder.step(torch.tensor([IDS[:-1]]), cache, 0)
        quick = decoder.step(torch.tensor([IDS[-1:]]), cache, len(IDS) - 1)
        torch.testing.assert_close(quick, model(torch.tensor([IDS])).logits[:, -1], atol=1e-5, rtol=1e-4)
    assert model.config._attn_implementation == "sdpa"


def test_the_copy_shares_the_weights(model: torch.nn.Module) -> None:
    mine, theirs = dict(Decoder(model, stop=[]).model.named_parameters()), dict(model.named_parameters())
    assert all(mine[name].data_ptr() == theirs[name].data_ptr() for name in theirs)


@pytest.mark.parametrize("shared", [0, 1, 17, 39, 40])
def test_a_prefix_changes_nothing(model: torch.nn.Module, shared: int) -> None:
    decoder = Decoder(model, stop=[])
    _, prefix = run(decoder, IDS)
    other = [*IDS[:shared], *[9, 8, 7, 6]]
    assert run(decoder, other, prefix)[0] == run(decoder, other)[0]


def test_a_prefix_is_really_reused(model: torch.nn.Module) -> None:
    decoder = Decoder(model, stop=[])
    _, prefix = run(decoder, IDS)
    read = counted(decoder)
    run(decoder, [*prefix.ids, 11, 12], prefix)
    assert read[0] == 2


REPEATING = [5, 6, 7, 8, 9, 10, 11, 12] * 6


def counted(decoder: Decoder) -> list[int]:
    """The number of tokens of each step from now on."""
    read, step = [], decoder.step
    decoder.step = lambda ids, *rest: read.append(ids.shape[1]) or step(ids, *rest)
    return read


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_drafts_save_steps_and_change_no_token(model: torch.nn.Module, dtype: torch.dtype) -> None:
    model = deepcopy(model).to(dtype)
    decoder = Decoder(model, stop=[])
    read = counted(decoder)
    tokens, prefix = run(decoder, REPEATING, max_new_tokens=60)
    expected = model.generate(torch.tensor([REPEATING]), max_new_tokens=60, do_sample=False)[0, len(REPEATING) :]
    assert tokens == expected.tolist()
    assert len(read) < 55
    assert sum(read[1:]) > 60  # parts of drafts were refused
    assert prefix.cache.get_seq_length() == len(prefix.ids)
    assert list(prefix.ids) == [*REPEATING, *tokens[:-1]]


def test_a_prefix_behind_drafts_changes_nothing(model: torch.nn.Module) -> None:
    decoder = Decoder(model, stop=[])
    for new in (11, 12, 13):
        tokens, prefix = run(decoder, REPEATING, max_new_tokens=new)
        assert prefix.cache.get_seq_length() == len(prefix.ids)
        other = [*REPEATING, *tokens, 3, 4]
        assert run(decoder, other, prefix)[0] == run(decoder, other)[0]


def test_a_stop_token_within_a_draft_ends_the_answer(model: torch.nn.Module) -> None:
    tokens = run(Decoder(model, stop=[]), REPEATING, max_new_tokens=14)[0]
    for stop in set(tokens[5:]):
        decoder = Decoder(model, stop=[stop])
        stopped, prefix = run(decoder, REPEATING, max_new_tokens=14)
        assert stopped == tokens[: tokens.index(stop)]
        assert list(prefix.ids) == REPEATING + stopped
        assert prefix.cache.get_seq_length() == len(prefix.ids)


@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_drafts_change_no_sample(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, temperature: float) -> None:
    decoder = Decoder(model, stop=[])
    read = counted(decoder)
    drafted = run(decoder, REPEATING, max_new_tokens=50, temperature=temperature, seed=1)[0]
    assert max(read[1:]) > 1
    monkeypatch.setattr("memspan.pretrained.decoding.can_step_back", lambda cache: False)
    assert run(decoder, REPEATING, max_new_tokens=50, temperature=temperature, seed=1)[0] == drafted


@pytest.mark.parametrize("queries", [1, 2, 8])
def test_logits_of_several_tokens_are_the_models_own(model: torch.nn.Module, queries: int) -> None:
    decoder = Decoder(model, stop=[])
    cache = decoder.new_cache()
    with torch.inference_mode():
        decoder.step(torch.tensor([IDS[:-queries]]), cache, 0)
        quick = decoder.step(torch.tensor([IDS[-queries:]]), cache, len(IDS) - queries, queries)
        torch.testing.assert_close(quick, model(torch.tensor([IDS])).logits[0, -queries:], atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not is_supported(), reason="this processor has no bfloat16 products of oneDNN")
def test_weights_in_bfloat16_are_packed_and_followed_when_they_change(model: torch.nn.Module) -> None:
    model = deepcopy(model).to(torch.bfloat16)
    decoder = Decoder(model, stop=[])
    run(decoder, IDS)
    assert all(layer.is_current for layer in decoder.model.modules() if isinstance(layer, PackedLinear))
    with torch.no_grad():
        model.lm_head.weight.neg_()
    assert run(decoder, IDS)[0] == run(Decoder(model, stop=[]), IDS)[0]


def test_it_stops_before_the_stop_token(model: torch.nn.Module) -> None:
    tokens = run(Decoder(model, stop=[]), IDS)[0]
    stop = tokens[5]
    assert run(Decoder(model, stop=[stop]), IDS)[0] == tokens[: tokens.index(stop)]


def test_compiled_tokens_are_the_same(model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The static cache and its positions; the compiler itself is exercised by the decoding benchmark."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    assert run(CompiledDecoder(model, stop=[], window=64), IDS)[0] == run(Decoder(model, stop=[]), IDS)[0]


def test_sampling_follows_the_seed(model: torch.nn.Module) -> None:
    decoder = Decoder(model, stop=[])
    once, again = (run(decoder, IDS, temperature=1.0, top_p=0.9, seed=3)[0] for _ in range(2))
    other = run(decoder, IDS, temperature=1.0, top_p=0.9, seed=4)[0]
    assert once == again
    assert once != other


def test_nothing_is_written_beyond_the_window(model: torch.nn.Module) -> None:
    decoder = CompiledDecoder(model, stop=[], window=len(IDS) + 3)
    decoder._compiled = model.forward
    assert len(run(decoder, IDS)[0]) == 3
    with pytest.raises(UsageError, match="fits into the model's window, got 43"):
        run(decoder, [*IDS, 1, 2, 3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"repetition_penalty": 0.9},
    ],
)
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(UsageError, match=f"^`?{next(iter(wrong))}`? must be .*, got {next(iter(wrong.values()))}"):
        Sampling(**wrong)


@pytest.mark.parametrize(
    ("run_", "times", "ends"),
    [
        ([7], CYCLE_TOKENS, True),
        ([7], CYCLE_TOKENS - 1, False),
        ([1, 2, 3], 8, True),
        ([1, 2, 3], 7, False),  # a line of a table
        (list(range(20)), 3, True),
        (list(range(20)), 2, False),  # a sentence said twice
        (list(range(65)), 3, False),
    ],
)
def test_a_cycle_is_a_run_repeated_without_end(run_: list[int], times: int, ends: bool) -> None:
    written = [900, 901, *run_ * times]
    assert ends_in_cycle(written) is ends
    assert not ends_in_cycle([*written, 5])
    assert not ends_in_cycle([])


def loops(model: torch.nn.Module) -> Decoder:
    """A decoder of a model that prefers token 7, then 8, whatever it reads."""
    decoder, logits = Decoder(model, stop=[]), torch.zeros(1, 1900)
    logits[0, 7], logits[0, 8] = 2.0, 1.5
    decoder.step = lambda ids, cache, before, keep=1: logits.expand(keep, -1)
    return decoder


def test_writing_stops_in_a_cycle(model: torch.nn.Module) -> None:
    tokens, prefix = run(loops(model), [7] * 40, max_new_tokens=100)
    assert tokens == [7] * CYCLE_TOKENS  # the prompt is no part of the cycle
    assert list(prefix.ids) == [7] * (40 + CYCLE_TOKENS - 1)


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1e-3, "seed": 1}])
def test_a_repetition_penalty_lowers_tokens_that_were_written(model: torch.nn.Module, sampling: dict) -> None:
    tokens, _ = run(loops(model), [7, 8], max_new_tokens=4, repetition_penalty=1.5, **sampling)
    assert tokens[:2] == [7, 8]  # 2 / 1.5 < 1.5, and the prompt does not count
    assert run(loops(model), [7, 8], max_new_tokens=4, repetition_penalty=1.3, **sampling)[0][:2] == [7, 7]
