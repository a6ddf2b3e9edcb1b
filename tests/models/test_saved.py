"""The kinds of models: one protocol for all of them, and kinds from other packages."""

import inspect
from pathlib import Path

import pytest
import torch

from memspan.errors import UsageError
from memspan.models.ensemble import Ensemble
from memspan.models.protocol import StatefulModel
from memspan.models.saved import GROUP, KINDS, model_class, model_kinds, open_model

PLUGIN = """
from memspan.models.scratch import ScratchConfig, ScratchModel

class Mirror(ScratchModel):
    kind = "mirror"

    def forward(self, ids, state=None, logits_to_keep=None):
        return super().forward(ids.flip(1), state, logits_to_keep)
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that registers a kind of model, and two wrong ones."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mirror_models.py").write_text(PLUGIN, "utf-8")
    info = tmp_path / "mirror_models-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mirror_models\nVersion: 1.0\n", "utf-8")
    names = {"mirror": "Mirror", "renamed": "Mirror", "config": "ScratchConfig", "scratch": "Mirror"}
    lines = [f"{name} = mirror_models:{value}" for name, value in names.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines, ""]), "utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_follows_the_protocol(kind: str) -> None:
    cls = model_class(kind)
    assert cls.kind == kind
    assert inspect.signature(cls.forward) == inspect.signature(StatefulModel.__call__)


def test_an_ensemble_follows_the_protocol() -> None:
    assert inspect.signature(Ensemble.forward) == inspect.signature(StatefulModel.__call__)


def test_kinds_of_other_packages(plugin: None, tmp_path: Path) -> None:
    assert {*KINDS, "mirror"} <= set(model_kinds())
    cls = model_class("mirror")
    torch.manual_seed(0)
    model = cls(cls.config_class(vocabulary=11, width=8, layers=[[{"name": "gru"}]])).eval()
    model.save_pretrained(tmp_path / "model")
    again, ids = open_model(tmp_path / "model").eval(), torch.arange(5)[None]
    assert type(again).__name__ == "Mirror"
    assert torch.equal(again(ids)[0], model(ids)[0])


def test_kinds_that_are_none(plugin: None) -> None:
    assert model_class("scratch").__name__ == "ScratchModel"  # a package does not replace a kind of memspan
    for name in ("renamed", "config"):
        with pytest.raises(UsageError, match=f"'{name}' of memspan.models must be a subclass of SavedModel with kind"):
            model_class(name)
    with pytest.raises(
        UsageError,
        match=r"must be one of classifier, config, extractive, feature_classifier, .*mirror, .*, got 'oracle'",
    ):
        model_class("oracle")
