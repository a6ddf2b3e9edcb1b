"""The codec of latents of a run, made with one call."""

from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from memspan.errors import MemspanError
from memspan.pretrained.condenser import Condenser
from memspan.pretrained.latents import FILE
from memspan.training.latents import make_latents
from tests.tiny import logbook, save_trained_memory


def test_a_run_gets_its_codec(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(logbook(), "utf-8")
    run = save_trained_memory(str(tiny_model), tmp_path / "run", rate=4, window=80, block=80, code=4, hidden=4)
    assert make_latents(run, tmp_path / "texts.txt", texts=10, directions=16) == run / FILE
    condenser = Condenser(AutoModelForCausalLM.from_pretrained(tiny_model).eval(), (), run)
    assert [rows.shape for rows in condenser.latents([list(range(3, 20))])] == [(5, 8)]


def test_what_has_no_trained_memory(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(MemspanError, match="holds no checksums"):
        make_latents(tiny_model, tmp_path / "texts.txt")
