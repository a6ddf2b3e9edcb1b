"""A support folder built from the sample, by the tiny model."""

import shutil
from pathlib import Path

import pytest

import memspan
from memspan.apps.support.exchanges import read_exchanges
from memspan.apps.support.folder import build, read_knowledge
from memspan.apps.support.past_answers import read_templates
from memspan.apps.support.sample import write_sample


@pytest.fixture(scope="module")
def lm(tiny_model: Path) -> memspan.LanguageModel:
    return memspan.load_model(str(tiny_model), encoder=None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


@pytest.fixture(scope="module")
def built(lm: memspan.LanguageModel, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "shop"
    read_knowledge(folder, lm, data / "knowledge")
    exchanges = read_exchanges(data / "dialogues.csv").exchanges
    outcome = build(folder, lm, exchanges, read_templates(data / "templates.csv"), ["person"], ["words"])
    assert outcome.unanswered == []
    return folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built, tmp_path / "shop")
