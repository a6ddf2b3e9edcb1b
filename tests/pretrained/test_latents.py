"""Latents: what a trained memory keeps of a text as short vectors, from which it is read without its text."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, LlamaForCausalLM

import memspan
from memspan.errors import UsageError
from memspan.models.generate import Sampling
from memspan.pretrained import trained
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.latent_fitting import Example, fit_latents, opening_and_filler
from memspan.pretrained.latents import CLIP, FILE, LEVELS, LatentCodec, codec_of
from tests.tiny import save_trained_memory

SHAPE = (3, 2, 2, 4)  # of a slot: 48 numbers
SETTINGS: dict[str, Any] = {"rate": 4, "slots": 16, "window": 16, "block": 16, "code": 4, "hidden": 4}
IDS = torch.randint(3, 400, (20, 48), generator=torch.Generator().manual_seed(0)).tolist()
EXAMPLES = [Example(ids, [(ids[:12], [*ids[1:12], -100]), (ids[20:24], [-100, *ids[22:24], -100])]) for ids in IDS]
TEXTS = [list(range(3, 3 + length)) for length in (20, 9, 33)]


def slots_of(count: int, rank: int = 6) -> Tensor:
    """Slots that differ in a few directions only, around a mean far from 0."""
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(rank, 48, generator=generator)
    return (torch.randn(count, rank, generator=generator) @ directions + 30).reshape(count, *SHAPE)


def codec(bits: int, directions: int = 6, importance: Tensor | None = None) -> LatentCodec:
    fields: dict[str, Any] = {"bits": bits, "rate": 4, "opening": (1, 2, 3, 4), "filler": 5, "memory": "m"}
    return LatentCodec.fitted(slots_of(400), directions, importance, **fields)


@pytest.fixture(scope="module")
def run(bases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_trained_memory(bases["causal"], tmp_path_factory.mktemp("run"), **SETTINGS)


@pytest.fixture(scope="module")
def condenser(bases: dict[str, str], run: Path) -> Condenser:
    model = LlamaForCausalLM.from_pretrained(bases["causal"]).eval()
    condenser = Condenser(model, (), run)
    fit_latents(condenser, AutoTokenizer.from_pretrained(bases["causal"]), EXAMPLES, run, directions=16, bits=8)
    return Condenser(model, (), run)


@pytest.mark.parametrize(("bits", "most"), [(8, 0.02), (4, 0.2)])
def test_slots_come_back(bits: int, most: float) -> None:
    made, slots = codec(bits), slots_of(50)
    latents = made.encode(slots)
    assert (latents.dtype, latents.shape) == (np.int8, (50, made.size))
    assert made.size == 6 * bits // 8
    rest = (made.decode(latents, SHAPE) - slots).square().mean() / (slots - slots.mean(0)).square().mean()
    assert rest < most**2


@pytest.mark.parametrize("bits", [8, 4])
def test_every_latent_is_that_of_the_slots_it_stands_for(bits: int) -> None:
    """Also the largest and the smallest numbers, in whatever half of a byte."""
    made, largest = codec(bits), LEVELS[bits]
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(-largest, largest + 1, (200, 6), generator=generator).float()
    weighted = numbers * (CLIP[bits] / largest) * made.deviation
    slots = weighted @ torch.nn.functional.normalize(made.basis.float()) / made.weight + made.mean
    latents = made.encode(slots.reshape(200, *SHAPE))
    torch.testing.assert_close(
        made.decode(latents, SHAPE), slots.reshape(200, *SHAPE), atol=0.3 if bits == 4 else 0.1, rtol=0
    )
    assert (made.encode(made.decode(latents, SHAPE)) == latents).mean() > 0.95  # directions are rounded


def test_what_matters_is_kept() -> None:
    """With two directions for six, the error is where numbers count little."""
    importance = torch.full(SHAPE, 1e-4)
    importance[0] = 1
    slots = slots_of(50)
    plain, weighted = codec(8, 2), codec(8, 2, importance)
    errors = [(made.decode(made.encode(slots), SHAPE) - slots)[:, 0].square().mean() for made in (plain, weighted)]
    assert errors[1] < 0.8 * errors[0]


def test_a_codec_comes_back_from_its_file(tmp_path: Path) -> None:
    made = codec(4)
    made.save(tmp_path / "c", {"license": "none"})
    loaded = LatentCodec.load(tmp_path / "c")
    assert loaded.identity == made.identity
    assert (loaded.encode(slots_of(9)) == made.encode(slots_of(9))).all()
    others = (replace(made, memory="n"), replace(made, filler=6), replace(made, opening=(1, 2, 3, 5)))
    assert len({made.identity, replace(made, mean=made.mean + 1).identity, *(other.identity for other in others)}) == 5


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda made: replace(made, bits=3), "4 or 8 bits"),
        (lambda made: replace(made, rate=3), "whole slots"),
        (lambda made: replace(made, opening=()), "whole slots"),
        (lambda made: replace(made, filler=-1), "header"),
        (lambda made: replace(made, memory=7), "header"),
        (lambda made: replace(made, basis=made.basis.float()), "int8"),
        (lambda made: replace(made, basis=made.basis[:5]), "whole bytes"),
        (lambda made: replace(made, mean=made.mean.half()), "float32"),
        (lambda made: replace(made, deviation=-made.deviation), "above 0"),
        (lambda made: replace(made, mean=made.mean * torch.nan), "no numbers"),
    ],
)
def test_files_that_hold_none(change: Callable[[LatentCodec], LatentCodec], match: str, tmp_path: Path) -> None:
    change(codec(4)).save(tmp_path / "c")
    with pytest.raises(UsageError, match=match):
        LatentCodec.load(tmp_path / "c")


def test_a_file_that_is_no_safetensors(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="holds no codec of latents"):
        LatentCodec.load(tmp_path / "c")


@pytest.mark.parametrize("shape", [(2, 2, 2, 4), (3, 2, 2, 8)])
def test_a_codec_of_another_model(shape: tuple[int, ...]) -> None:
    codec(4).check(SHAPE)
    with pytest.raises(UsageError, match="that of another model"):
        codec(4).check(shape)


def test_too_few_slots() -> None:
    with pytest.raises(UsageError, match="need more than 446 slots, got 400: give more text"):
        codec(4, 406)


def test_texts_are_condensed_alike_alone_and_together(condenser: Condenser, monkeypatch: pytest.MonkeyPatch) -> None:
    together = condenser.latents(TEXTS)
    assert [len(rows) for rows in together] == [5, 3, 9]
    alone = [condenser.latents([text])[0] for text in TEXTS]
    monkeypatch.setattr("memspan.pretrained.condenser.AT_ONCE", 24)
    apart = condenser.latents(TEXTS)
    for rows in zip(together, alone, apart, strict=True):
        for other in rows[1:]:
            assert np.abs(rows[0].astype(int) - other).max() <= 1  # sums in another order may round otherwise


def test_what_is_read_from_latents_is_what_was_read(condenser: Condenser, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a codec that loses nothing, a text alone behind the opening is to the model as if it had read it there."""
    codec = condenser.needed_codec()
    text, prompt = TEXTS[0], torch.tensor([[40, 41, 42, 43, 44]])
    exact = condenser.slots([text], codec.opening, codec.filler)[0]
    lossy = condenser.read([text], condenser.latents([text]))
    assert lossy.ids == (*codec.opening, *text)
    monkeypatch.setattr(LatentCodec, "decode", lambda *_: exact)
    stored = condenser.read([text], condenser.latents([text]))
    read = condenser.read([[*codec.opening, *text]])
    assert stored.ids == read.ids
    nothing = condenser.read([codec.opening])
    with torch.no_grad():
        got, expected, near, far = (
            condenser.decoder.step(prompt, prefix.cache, len(prefix.ids), keep=5)
            for prefix in (stored, read, lossy, nothing)
        )
    torch.testing.assert_close(got, expected)
    assert (near - expected).abs().max() < 0.5 * (far - expected).abs().max()


def test_texts_and_latents_in_turn(condenser: Condenser) -> None:
    """Texts are filled up to whole slots, so that latents can follow."""
    texts = [TEXTS[1], TEXTS[0], TEXTS[2]]
    prefix = condenser.read(texts, [None, condenser.latents(texts)[1], None])
    assert len(prefix.ids) == 8 + 12 + 20 + 36
    assert len(list(condenser.decoder.generate([*prefix.ids, 7], Sampling(max_new_tokens=3), prefix))) > 0


def test_latents_of_another_text_or_codec(condenser: Condenser) -> None:
    latents = condenser.latents(TEXTS)
    for wrong in (latents[1], latents[0][:, :8]):
        with pytest.raises(UsageError, match=r"latents must be int8 \(5, 16\)"):
            condenser.read([TEXTS[0]], [wrong])


def test_a_trained_memory_without_a_codec(
    bases: dict[str, str], run: Path, condenser: Condenser, tmp_path: Path
) -> None:
    """Also one whose codec was made for other weights."""
    model = LlamaForCausalLM.from_pretrained(bases["causal"]).eval()
    bare = Condenser(model, (), run)
    bare.codec = None
    with pytest.raises(UsageError, match=r"it has no codec\. memspan\.training\.latents\.make_latents"):
        bare.latents(TEXTS)
    replace(condenser.needed_codec(), memory="other").save(tmp_path / FILE)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    assert Condenser(model, (), tmp_path).codec is None


def test_the_opening_is_of_whole_slots(bases: dict[str, str]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bases["causal"])
    assert [len(opening_and_filler(tokenizer, rate)[0]) for rate in (1, 3, 8, 100)] == [8, 9, 8, 100]


def test_too_few_texts(condenser: Condenser, bases: dict[str, str], tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bases["causal"])
    for examples, message in (([], "must be texts"), (EXAMPLES[:3], "16 directions need more than 56 slots, got 36")):
        with pytest.raises(UsageError, match=message):
            fit_latents(condenser, tokenizer, examples, tmp_path, directions=16)
    assert not list(tmp_path.iterdir())


def test_errors_count_where_they_change_what_is_read(condenser: Condenser) -> None:
    """What the logits behind a text are without errors, and with errors of one size in numbers of large or of small weight."""
    codec = condenser.needed_codec()
    order, (slots,) = codec.weight.argsort(), condenser.slots([IDS[0]], codec.opening, codec.filler)
    prompt = torch.tensor([IDS[1][:12]])
    noise = torch.randn(len(slots), 20, generator=torch.Generator().manual_seed(0))

    def logits(numbers: Tensor) -> Tensor:
        changed = slots.flatten(1).clone()
        changed[:, numbers] += noise[:, : len(numbers)]
        with torch.no_grad():
            return condenser.logits(prompt, changed.reshape(1, *slots.shape), codec.opening)

    exact = logits(order[:0])
    with torch.no_grad():
        read = condenser.read([[*codec.opening, *IDS[0]]])
        torch.testing.assert_close(exact[0], condenser.decoder.step(prompt, read.cache, len(read.ids), keep=12))
    large, small = ((logits(numbers) - exact).square().mean() for numbers in (order[-20:], order[:20]))
    assert large > 2 * small


def test_the_codec_that_comes_with_memspan_is_that_of_its_weights() -> None:
    (path,) = (Path(memspan.__file__).parent / "pretrained" / "memories" / "latents").glob("*.safetensors")
    (known,) = [trained.of_run(weights) for weights in path.parents[1].glob("*.safetensors")]
    codec = codec_of(known.weights, None)
    assert codec is not None
    codec.check((30, 2, 3, 64))
    assert (codec.size, codec.rate, len(codec.opening)) == (512, known.settings["rate"], 8)
    assert path.stat().st_size < 16 * 2**20
    assert codec_of({name: weight + 1 for name, weight in known.weights.items()}, None) is None
