"""A model is known by its files: a damaged model is another model, another dtype is not; older memories still open."""

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import memspan
from memspan import LanguageModel
from memspan.errors import DamagedFolder, ForeignMemory, MemspanError
from memspan.memory import Fingerprint, Memory, load_memory
from memspan.memory.index.calibration import RetrievalHeads
from memspan.models import folders
from memspan.models.folders import sha256_of
from memspan.pretrained import hub, identity
from memspan.pretrained.identity import ChangedModel
from memspan.pretrained.model_cache import cache_folder
from tests.assistant.conftest import HEADS
from tests.memory.make import encoded
from tests.pretrained.hostile import edit, too_large

LONG = "model.embed_tokens.weight"  # has more elements than the sample takes


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tiny model, and an empty cache. No calibration."""
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: HEADS)
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def load(folder: Path, dtype: str = "float32") -> LanguageModel:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ChangedModel)
        return memspan.load_model(folder, device="cpu", dtype=dtype)


def damage(folder: Path) -> None:
    """Change one number of the weights that the sample does not take."""
    tensors = load_file(folder / "model.safetensors")
    tensors[LONG].view(-1)[1] += 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def test_a_damaged_model_is_another_model(folder: Path, tmp_path: Path) -> None:
    whole = load(folder)
    whole.read("A zinc trunk.", source="a").save(tmp_path / "m")
    damage(folder)
    damaged = load(folder)
    assert damaged.fingerprint.sample == whole.fingerprint.sample
    for use in (
        lambda: damaged.search(load_memory(tmp_path / "m"), "zinc"),
        lambda: damaged.new_memory(tmp_path / "m"),
        lambda: load_memory(tmp_path / "m", expect=damaged.fingerprint),
    ):
        with pytest.raises(ForeignMemory, match=rf"made with model {folder} \([0-9a-f]{{12}}\).*--model {folder}"):
            use()
    assert whole.search(load_memory(tmp_path / "m"), "zinc")[0].source == "a"


def test_another_dtype_is_the_same_model_and_is_called_another_dtype(folder: Path, tmp_path: Path) -> None:
    whole, half = load(folder), load(folder, "bfloat16")
    assert whole.fingerprint.model == half.fingerprint.model
    assert whole.fingerprint.sample != half.fingerprint.sample
    memory = whole.read("A zinc trunk.")
    older = Memory(replace(memory.fingerprint, model=memory.fingerprint.sample, sample=None))
    for made in (memory, older):
        with pytest.raises(ForeignMemory, match=r"dtype float32, but here it is bfloat16.*--dtype float32"):
            half.search(made, "zinc")


def test_saving_a_model_again_leaves_it_the_same(folder: Path) -> None:
    before = hub.load(str(folder), device="cpu").identity
    edit(folder, transformers_version="9.9.9", _name_or_path="elsewhere", dtype="float16")
    with pytest.warns(ChangedModel):
        assert hub.load(str(folder), device="cpu").identity == before
    edit(folder, rms_norm_eps=1e-5)
    with pytest.warns(ChangedModel):
        assert hub.load(str(folder), device="cpu").identity != before


def test_each_file_of_a_folder_is_hashed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashed(lambda: hub.load(str(folder), device="cpu"), monkeypatch) == sorted(
        path.name for path in folder.iterdir()
    )


def hashed(load: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that a call hashes."""
    names = []

    def recorded(path: Path) -> str:
        names.append(path.name)
        return sha256_of(path)

    for module in (folders, hub, identity):
        monkeypatch.setattr(module, "sha256_of", recorded)
    load()
    return sorted(names)


# ---- memories of older versions, whose model is the sample of the weights

KNOWN = Fingerprint("f" * 64, "b" * 64, "float32", ((1, 0), (3, 2)), 4, "tiny", sample="5" * 64)
OLDER = replace(KNOWN, model="5" * 64, sample=None)
DAMAGED = replace(KNOWN, model="d" * 64)  # the same sample
NUMBER = iter(range(1000))


def text(words: str) -> object:
    return encoded(words, source=f"source {next(NUMBER)}")


def test_an_older_memory_opens_and_is_known_by_the_files_from_the_next_change_on(tmp_path: Path) -> None:
    older = Memory.open(tmp_path / "m", OLDER)
    older.append([text("one")])
    memory = load_memory(tmp_path / "m", expect=KNOWN)
    assert b"f" * 64 not in (tmp_path / "m" / "manifest.json").read_bytes()
    memory.append([text("two")])
    assert b"f" * 64 in (tmp_path / "m" / "manifest.json").read_bytes()
    assert b"5" * 64 not in (tmp_path / "m" / "manifest.json").read_bytes()
    assert len(load_memory(tmp_path / "m", expect=KNOWN)) == 2
    with pytest.raises(ForeignMemory):
        load_memory(tmp_path / "m", expect=DAMAGED)
    older.append([text("three")])  # it was opened when the memory was known by the sample, and takes the new name in
    assert older.fingerprint.model == KNOWN.model
    assert b"f" * 64 in (tmp_path / "m" / "manifest.json").read_bytes()
    assert memory.refresh()
    assert len(memory) == 3


def test_older_and_newer_memories_merge_both_ways(tmp_path: Path) -> None:
    older, newer = Memory(OLDER), Memory(KNOWN)
    older.append([text("one")])
    newer.append([text("two")])
    assert len(newer.merge(older)) == 1
    assert len(older.merge(newer)) == 1
    opened = Memory.open(tmp_path / "m", OLDER)
    assert len(opened.merge(newer)) == 2
    for foreign in (DAMAGED, replace(KNOWN, model="d" * 64, sample="e" * 64), replace(OLDER, model="e" * 64)):
        with pytest.raises(ForeignMemory, match="made with model"):
            newer.merge(Memory(foreign))


def test_the_sample_is_neither_stored_nor_shown(tmp_path: Path) -> None:
    memory = Memory.open(tmp_path / "m", KNOWN)
    assert load_memory(tmp_path / "m").fingerprint.sample is None
    assert "sample" not in memory.inspect()["fingerprint"]


# ---- the record of a folder's files


def test_changed_files_are_named_with_the_date(folder: Path) -> None:
    hub.load(str(folder), device="cpu")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hub.load(str(folder), device="cpu")
    edit(folder, "tokenizer_config.json", chat_template="{{ messages }}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "notes.md").write_text("not a file of the model")
    with pytest.warns(ChangedModel) as caught:
        hub.load(str(folder), device="cpu")
    (warning,) = caught
    (record,) = identity.recorded_folders(hub.folder_records())
    assert f"not the same as on {record.since}: chat_template.jinja, tokenizer_config.json changed" in str(
        warning.message
    )
    path = next(hub.folder_records().glob("*.json"))
    assert f"delete {path}" in str(warning.message)
    path.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hub.load(str(folder), device="cpu")
        hub.load(str(folder), device="cpu")
    assert identity.changed_files(record) == ["tokenizer_config.json"]


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"sha256": 3}', '{"model": 1, "path": 2, "sha256": "x"}', "[" * 10**5]
)
def test_a_damaged_record_is_written_anew(folder: Path, content: str) -> None:
    files = {"a": "1"}
    identity.warn_of_changes(hub.folder_records(), "m", folder, files)
    path = next(hub.folder_records().glob("*.json"))
    whole = path.read_text("utf-8")
    path.write_text(content, "utf-8")
    assert identity.recorded_folders(hub.folder_records()) == []
    identity.warn_of_changes(hub.folder_records(), "m", folder, files)
    assert path.read_text("utf-8") == whole


def test_a_cache_that_cannot_be_written_stops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "file").write_text("")
    monkeypatch.setenv("MEMSPAN_CACHE", str(folder.parent / "file"))
    assert load(folder).heads == HEADS


# ---- the calibration


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.update(heads=[[0, 1], [0, 1]]),
        lambda record: record.update(first=0.25),
        lambda record: record.pop("sha256"),
        lambda record: record.pop("model"),
        lambda record: record.pop("heads"),
        lambda record: record.update(more=1),
    ],
)
def test_a_changed_calibration_is_refused(tmp_path: Path, change: object) -> None:
    HEADS.save(tmp_path / "heads.json", "a model")
    record = json.loads((tmp_path / "heads.json").read_text("utf-8"))
    change(record)
    (tmp_path / "heads.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(MemspanError, match=r"heads\.json is damaged \(.*\); delete it"):
        RetrievalHeads.load(tmp_path / "heads.json", "a model")


@pytest.mark.parametrize(
    "heads", [[[0, 1.5]], [[True, 1]], [["0", 1]], [[0]], [0], [[0, 1, 2]], "01", None, [[0, 10**30]]]
)
def test_heads_that_are_none_are_refused(tmp_path: Path, heads: object) -> None:
    (tmp_path / "heads.json").write_text(json.dumps({"heads": heads, "reciprocal_rank": 1.0, "first": 1.0}), "utf-8")
    with pytest.raises(MemspanError):
        RetrievalHeads.load(tmp_path / "heads.json", "a model").check(2, 4)


@pytest.mark.parametrize("quality", [float("nan"), float("inf"), -0.5, 2.0, 0.0])
def test_qualities_are_shares(quality: float) -> None:
    with pytest.raises(MemspanError, match="qualities from 0 to 1"):
        RetrievalHeads(((0, 1),), quality, 0.5).check(2, 4)


def test_a_calibration_of_another_model_is_not_taken(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(folder)
    (path,) = (cache_folder() / "heads").iterdir()
    assert RetrievalHeads.load(path, whole.fingerprint.model) == HEADS
    assert RetrievalHeads.load(path, "another") is None
    others = RetrievalHeads(((0, 0),), 1.0, 1.0)
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: others)
    assert load(folder).heads == HEADS
    damage(folder)
    assert load(folder).heads == others
    assert RetrievalHeads.load(path, whole.fingerprint.model) == HEADS


def test_a_calibration_of_an_older_version_is_taken(folder: Path) -> None:
    sample = identity.weights_sample(hub.load(str(folder), device="cpu", dtype="float32").model)
    others = RetrievalHeads(((0, 0),), 1.0, 1.0)
    path = cache_folder() / "heads" / f"{sample[:32]}.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"heads": [[0, 0]], "reciprocal_rank": 1.0, "first": 1.0}), "utf-8")
    assert load(folder).heads == others


# ---- several files


def test_a_model_in_several_files_is_loaded_and_each_of_them_counts(folder: Path) -> None:
    one_file = hub.load(str(folder), device="cpu", dtype="float32")
    one_file.model.save_pretrained(folder, max_shard_size="300KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    with pytest.warns(ChangedModel, match=r"model-0000.*changed"):
        several = hub.load(str(folder), device="cpu", dtype="float32")
    for name, weight in one_file.model.state_dict().items():
        assert torch.equal(weight, several.model.state_dict()[name])
    last = max(folder.glob("model-*.safetensors"))
    tensors = load_file(last)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, last, metadata={"format": "pt"})
    with pytest.warns(ChangedModel, match=last.name):
        assert hub.load(str(folder), device="cpu", dtype="float32").identity != several.identity
    too_large(last.name)(folder)
    with pytest.raises(DamagedFolder, match=last.name):
        hub.load(str(folder), device="cpu")
