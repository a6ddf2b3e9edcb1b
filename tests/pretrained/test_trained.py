"""Trained weights of a working memory: from the folder of a run, and those that come with memspan."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM

from memspan.errors import UsageError
from memspan.mechanisms import build_over_keys
from memspan.pretrained import hub, trained
from memspan.pretrained.adapt import adapt
from memspan.pretrained.attach import attached
from tests.tiny import save_trained_memory

SETTINGS: dict[str, Any] = {"rate": 2, "slots": 16, "window": 16, "block": 8, "code": 4, "hidden": 4}
IDS = torch.randint(3, 400, (1, 60), generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def run(bases: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model whose memory has random weights."""
    return save_trained_memory(bases["causal"], tmp_path_factory.mktemp("run"), **SETTINGS)


def base_of(bases: dict[str, str]) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(bases["causal"]).eval()


def logits(model: LlamaForCausalLM, mechanism: str = "gist", **how: Any) -> torch.Tensor:
    with torch.no_grad(), attached(model, mechanism, **how) as attached_model:
        return attached_model(IDS).logits


def test_the_weights_of_a_run_are_those_of_the_attached_memory(bases: dict[str, str], run: Path) -> None:
    """Its settings come along; the model then computes what the trained one computes."""
    got = logits(base_of(bases), weights=run)
    with torch.no_grad(), attached(base_of(bases), build_over_keys("gist", **SETTINGS)) as untrained:
        assert not torch.allclose(got[:, -1], untrained(IDS).logits[:, -1], atol=1e-6)
    model = adapt(bases["causal"], 400, mechanism="gist", settings=SETTINGS)
    model.load_weights(run / "model.safetensors")
    model.release()
    with torch.no_grad(), attached(base_of(bases), list(model.mechanisms)) as expected:  # type: ignore[arg-type]
        torch.testing.assert_close(got, expected(IDS).logits)


def test_memspan_knows_its_weights_by_the_base(
    bases: dict[str, str], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, other = base_of(bases), base_of(bases)
    with torch.no_grad():
        base.model.norm.weight += 0.1 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    path = tmp_path / "weights.safetensors"
    trained.write(path, run, base, settings=SETTINGS, about={"license": "none"}, shaping=("rate", "code", "hidden"))
    monkeypatch.setattr(trained, "_shipped_files", lambda: [path])
    expected = logits(base, weights=run)
    torch.testing.assert_close(logits(base), expected, rtol=0.1, atol=1e-3)  # bfloat16 in the file
    torch.testing.assert_close(logits(base.bfloat16()).float(), expected, rtol=0.2, atol=0.02)
    for model, settings in ((other, {}), (base_of(bases), {"rate": 4})):
        small = {"slots": 16, "window": 16, "block": 8, **settings}
        with pytest.warns(trained.Untrained, match="no trained weights of 'gist' for this model"):
            logits(model, **small)


def test_a_mechanism_that_nobody_trained_says_so(bases: dict[str, str]) -> None:
    """Where memspan brings no weights of a mechanism for any model: before training it is a window, and no memory."""
    small = {"rate": 4, "window": 16, "block": 8, "sinks": 2}
    with pytest.warns(trained.Untrained, match="--mechanism associative` makes them"):
        found = logits(base_of(bases), "associative", **small)
    window = {name: value for name, value in small.items() if name != "rate"}
    torch.testing.assert_close(found, logits(base_of(bases), "sink_window", **window))


def test_what_comes_with_memspan_is_whole() -> None:
    files = trained._shipped_files()
    assert files
    for path in files:
        assert path.stat().st_size < 16 * 2**20
        weights = trained.of_run(path)
        assert weights.fingerprint is not None
        assert {name.split(".", 1)[0] for name in weights.weights} == {str(layer) for layer in range(30)}


@pytest.mark.parametrize(
    ("path", "message"),
    [("nowhere", "must be the folder of a trained model"), ("empty", "no working memory with weights")],
)
def test_a_folder_without_such_weights(bases: dict[str, str], tmp_path: Path, path: str, message: str) -> None:
    adapt(bases["causal"], 404).save_pretrained(tmp_path / "empty")
    with pytest.raises(UsageError, match=message):
        logits(base_of(bases), weights=tmp_path / path)


def test_weights_of_another_mechanism_or_shape(bases: dict[str, str], run: Path) -> None:
    with (
        pytest.raises(UsageError, match="those of 'gist', not of 'sink_window'"),
        attached(base_of(bases), "sink_window", weights=run),
    ):
        pass
    with pytest.raises(UsageError, match="those of another model or of other settings"):
        logits(base_of(bases), weights=run, code=5)


@pytest.mark.smollm2
def test_the_embedded_model_remembers_what_has_left_its_window() -> None:
    """A made-up number far behind the window is likelier with the trained memory than without it, and with another's."""
    loaded = hub.load("smollm2")
    number = "The access code of Magnus Holloway is 7352.\n"
    filler = "The rain went on all afternoon, and nobody in the house said a word about the harvest.\n" * 6
    question, answer = "The access code of Magnus Holloway is", " 7352"

    def loss(text: str, mechanism: str) -> float:
        start, asked, value = (
            loaded.tokenizer(part, add_special_tokens=False, return_tensors="pt")["input_ids"]
            for part in (text, question, answer)
        )
        ids = torch.cat([start, asked, value], 1)
        with torch.no_grad(), attached(loaded.model, mechanism, window=64, block=64) as model:  # type: ignore[arg-type]
            scores = model(ids).logits[:, -value.shape[1] - 1 : -1].float()
        return torch.nn.functional.cross_entropy(scores[0], value[0]).item()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own = loss(number + filler, "gist")
    assert own < loss(number + filler, "sink_window") - 0.5
    assert own < loss(number.replace("7352", "1840") + filler, "gist") - 0.5


def test_no_more_slots_are_attached_than_the_weights_were_trained_with() -> None:
    """Those that come with memspan were trained on texts of 1,024 tokens; four times as many slots made a model much worse."""
    paths = trained._shipped_files()
    assert paths
    for path in paths:
        settings = trained._header(path)["settings"]
        assert settings["slots"] * settings["rate"] <= 1024, path.name
