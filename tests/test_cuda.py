"""On a CUDA device: the laws of every mechanism, a pretrained model with its memory, and training."""

import copy
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import torch

import memspan
from memspan import Sampling, attached
from memspan import testing as laws
from memspan.mechanisms import MECHANISMS, KVMechanism, build
from memspan.mechanisms.layers.fused_delta_rule import installed_kernel
from memspan.models.generate import continue_text
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.training.loop import train
from tests.tiny import logbook
from tests.training.test_loop import tiny

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore:RNN module weights are not part of single contiguous chunk:UserWarning"),
]
NAMES = sorted(MECHANISMS)
OVER_KEYS = [name for name in NAMES if issubclass(MECHANISMS[name], KVMechanism)]
QUESTION = "What was the weather on the gallery?"


def example_of(name: str) -> laws.Example:
    return replace(import_module(f"tests.mechanisms.test_{name}").EXAMPLE, device="cuda")


@pytest.mark.parametrize("name", NAMES)
def test_the_laws_hold(name: str) -> None:
    example = example_of(name)
    cuts = [length * example.grid for length in (7, 1, 13, 9)]
    laws.whole_equals_segments(example, cuts)
    laws.state_carries_information(example)
    laws.state_is_a_value(example, cuts)
    laws.rows_are_strangers(example, cuts)
    laws.gradients_reach_earlier_segments(example)
    laws.saving_changes_nothing(example, cuts)
    laws.internals_describe_forward(example)
    laws.nothing_changes_nothing(example)
    if example.causal:
        laws.never_sees_ahead(example, cuts, sum(cuts) // 2)


@pytest.mark.parametrize("name", OVER_KEYS)
def test_the_laws_of_keys_and_values_hold(name: str) -> None:
    cuts, valid = (7, 1, 13, 9), torch.ones(3, 30, dtype=torch.bool, device="cuda")
    valid[0, :9] = valid[1, 10:20] = valid[2, 3] = False
    laws.unlimited_equals_plain_attention(example_of(name), cuts)
    laws.padding_does_not_count(example_of(name), cuts, valid)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OVER_KEYS])
def test_padding_is_not_read(name: str) -> None:
    valid = torch.ones(3, 30, dtype=torch.bool, device="cuda")
    valid[0, :9] = valid[1, 10:20] = valid[2, 3] = False
    laws.padding_does_not_count(example_of(name), (7, 1, 13, 9), valid)


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_changes_little(name: str) -> None:
    laws.half_precision_changes_little(example_of(name))


@pytest.mark.parametrize("name", ["delta", "ltm"])
def test_the_kernels_of_another_package_compute_what_the_chunks_do(name: str) -> None:
    """In half precision on a GPU, where flash-linear-attention is installed."""
    pytest.importorskip("fla", reason="flash-linear-attention is not installed")
    assert installed_kernel() is not None
    laws.half_precision_changes_little(example_of(name))
    torch.manual_seed(0)
    here = build(64, name)
    there = copy.deepcopy(here).cuda().bfloat16()
    x = torch.randn(2, 300, 64)
    outputs = [mechanism(given)[0].float().cpu() for mechanism, given in ((here, x), (there, x.cuda().bfloat16()))]
    assert (outputs[0] - outputs[1]).norm() < 0.02 * outputs[0].norm()


@pytest.mark.parametrize("name", NAMES)
def test_it_computes_what_the_cpu_computes(name: str) -> None:
    """With the default settings, in single precision, gradients included."""
    torch.manual_seed(0)
    here, there = build(32, name), build(32, name).cuda()
    there.load_state_dict(here.state_dict())
    x = torch.randn(2, 300, 32)
    outputs = {}
    for mechanism, device in ((here, "cpu"), (there, "cuda")):
        y, _ = mechanism(x.to(device))
        y.square().mean().backward()
        outputs[device] = y.detach().cpu()
    torch.testing.assert_close(outputs["cuda"], outputs["cpu"], rtol=1e-3, atol=1e-3)
    largest = max(float(weight.grad.abs().max()) for weight in here.parameters() if weight.grad is not None)
    for one, other in zip(here.parameters(), there.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None and other.grad is not None:  # those far below the largest are rounding
            torch.testing.assert_close(other.grad.cpu(), one.grad, rtol=1e-2, atol=1e-4 * largest)


@pytest.mark.parametrize("name", [name for name in NAMES if getattr(MECHANISMS[name], "causal", True)])
def test_a_model_from_scratch_writes_what_it_writes_on_the_cpu(name: str) -> None:
    torch.manual_seed(0)
    model = ScratchModel(ScratchConfig(vocabulary=20, width=16, layers=[[{"name": name}]])).eval()
    ids = torch.randint(20, (3, 40))
    here, _ = continue_text(model, ids, None, Sampling(max_new_tokens=5))
    there, _ = continue_text(model.cuda(), ids.cuda(), None, Sampling(max_new_tokens=5))
    assert (there.cpu() == here).float().mean() > 0.9  # logits of random weights may be equal but for rounding


def test_a_pretrained_model_reads_and_finds_as_on_the_cpu(tiny_model: Path) -> None:
    here, there = (
        memspan.load_model(str(tiny_model), device=device, dtype="float32", encoder="none")
        for device in ("cpu", "cuda")
    )
    text = logbook()[:6000]
    found = [lm.search(lm.read(text, source="book"), QUESTION) for lm in (here, there)]
    assert [passage.number for passage in found[0]][:3] == [passage.number for passage in found[1]][:3]
    answer = there.ask(there.read(text), QUESTION, sampling=Sampling(max_new_tokens=8))
    assert answer.answer_tokens


@pytest.mark.parametrize("placement", ["cuda", "auto", {"": 0}], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_answers_in_half_precision_wherever_it_is_placed(
    tiny_model: Path, placement: str | dict[str, int], dtype: str
) -> None:
    lm = memspan.load_model(str(tiny_model), device=placement, dtype=dtype, encoder="none")
    assert next(lm.causal_lm.parameters()).device.type == "cuda"
    memory = lm.read(logbook()[:6000])
    assert lm.ask(memory, QUESTION, sampling=Sampling(max_new_tokens=8)).passages


@pytest.mark.parametrize("name", OVER_KEYS)
def test_an_attached_memory_gives_the_logits_of_the_cpu(tiny_model: Path, name: str) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()
    ids, logits = torch.randint(2, 1900, (2, 400), generator=torch.Generator().manual_seed(0)), []
    mask = torch.ones_like(ids)
    mask[0, :130] = 0
    for device in ("cpu", "cuda"):
        model = model.to(device)
        torch.manual_seed(0)
        with attached(model, name), torch.no_grad():
            cache = None
            for part in (slice(0, 300), slice(300, 400)):
                output = model(ids[:, part].to(device), attention_mask=mask[:, part].to(device), past_key_values=cache)
                cache = output.past_key_values
        logits.append(output.logits[:, -1].cpu())
    torch.testing.assert_close(logits[1], logits[0], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_goes_on_where_it_stopped(precision: str, tmp_path: Path) -> None:
    config = tiny(device="auto", precision=precision, output=str(tmp_path / "run"), steps=6)
    report = train(config)
    assert next(report.model.parameters()).device.type == "cuda"
    assert report.step == 6
    assert train(config, resume=True).step == 6
