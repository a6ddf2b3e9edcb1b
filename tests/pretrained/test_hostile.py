"""Model folders of strangers are refused in a sentence or do no harm; nothing of theirs runs, nobody is asked."""

import ast
import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertModel

import memspan
from memspan.errors import DamagedFolder, UsageError
from memspan.pretrained import hub
from memspan.pretrained.loading import load_weights, options
from tests.pretrained.hostile import HARMLESS, REFUSED

PACKAGE = Path(memspan.__file__).parent


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny model. Standard input holds "y" for everybody who asks."""
    monkeypatch.setenv("MEMSPAN_MARKER", str(tmp_path / "marker"))
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_folder_is_refused_in_a_sentence(folder: Path, case: str) -> None:
    REFUSED[case](folder)
    with pytest.raises((UsageError, DamagedFolder)) as caught:
        hub.load(str(folder), device="cpu", dtype="float32")
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 700
    assert str(folder) in sentence or "There is no model" in sentence
    assert sys.stdin.read() == "y\n" * 100
    assert not (folder.parent / "marker").exists()


@pytest.mark.parametrize("case", HARMLESS)
def test_a_hostile_folder_that_does_no_harm_is_loaded(folder: Path, case: str) -> None:
    HARMLESS[case](folder)
    hub.load(str(folder), device="cpu", dtype="float32")
    assert sys.stdin.read() == "y\n" * 100
    assert not (folder.parent / "marker").exists()


def test_a_pickle_is_answered_with_the_way_to_convert_it(folder: Path) -> None:
    REFUSED["pickle"](folder)
    with pytest.raises(UsageError, match=r"pytorch_model\.bin, a pickle, .*save_pretrained"):
        hub.load(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("case", "read"),
    [
        ("code of the configuration", hub.load),
        ("code of the configuration", hub.config_of),
        ("code of the model", hub.load),
        ("code of the tokenizer", hub.tokenizer_of),
    ],
)
def test_code_is_answered_with_the_flag_that_allows_it(folder: Path, case: str, read: Callable[[str], Any]) -> None:
    REFUSED[case](folder)
    with pytest.raises(UsageError, match=r"code of its own.*--trust-remote-code"):
        read(str(folder))
    assert not (folder.parent / "marker").exists()


def test_weights_of_another_head_are_an_encoder_but_no_language_model(tmp_path: Path) -> None:
    sizes = {
        "vocab_size": 50,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    BertForMaskedLM(BertConfig(**sizes)).save_pretrained(tmp_path)  # has a head, and no pooler
    assert load_weights("AutoModel", tmp_path, torch.float32).stored.elements > 0
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(DamagedFolder, match="tensors are missing"):
        load_weights("AutoModelForMaskedLM", tmp_path, torch.float32)


def calls() -> list[tuple[Path, ast.Call]]:
    """Every call in memspan that reads a model or a data set."""
    names = {"from_pretrained", "snapshot_download", "load_dataset"}
    texts = {path: path.read_text("utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return [
        (path, node)
        for path, text in texts.items()
        if any(name in text for name in names)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names
    ]


def test_every_call_that_reads_a_model_says_what_it_trusts() -> None:
    assert len(calls()) >= 8
    for path, call in calls():
        unpacked = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
        named = {keyword.arg for keyword in call.keywords}
        if ast.unparse(call.func) == "Recommender.from_pretrained":
            continue  # a model of memspan's own: safetensors and JSON
        if ast.unparse(call.func).endswith("from_pretrained"):
            assert any(value.startswith("options(") for value in unpacked), f"{path}:{call.lineno}"
            model = "Model" in ast.unparse(call.func) or "loader" in ast.unparse(call.func)
            assert not model or any("weights=True" in value for value in unpacked), f"{path}:{call.lineno}"
        elif ast.unparse(call.func).endswith("snapshot_download"):
            assert {"revision", "allow_patterns"} <= named, f"{path}:{call.lineno}"
        else:
            assert {"revision", "data_files"} & named, f"{path}:{call.lineno}"


def test_the_options_of_every_call() -> None:
    assert options() == {"trust_remote_code": False, "local_files_only": True}
    assert options(weights=True)["use_safetensors"] is True
    assert options(True)["trust_remote_code"] is True
