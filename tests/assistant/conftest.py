"""The tiny random model as a language model, calibrated already."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from memspan import LanguageModel
from memspan.memory.index.calibration import RetrievalHeads

HEADS = RetrievalHeads(((0, 1), (1, 0), (1, 3)), 1.0, 1.0)


def loaded(folder: Path) -> LanguageModel:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    return LanguageModel(model, AutoTokenizer.from_pretrained(folder), name="tiny", heads=HEADS)


@pytest.fixture(scope="session")
def lm(tiny_model: Path) -> LanguageModel:
    return loaded(tiny_model)
