"""Vectors that were trained for the language model itself, through the product: from pairs to a search by meaning."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import memspan
from memspan import LanguageModel
from memspan.errors import ForeignMemory, UsageError
from memspan.memory.index.fusion import WEIGHTS
from memspan.memory.index.passage_vectors import MissingEncoder
from memspan.models.folders import write_checksums
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.commands import Run
from tests.tiny import save_tiny_model

WORDS = {  # of questions -> of passages: no question shares a word with the passage that answers it
    "physician": "doctor Greene lives in the yellow house",
    "canine": "the dog sleeps under the kitchen stove",
    "automobile": "a red car stands behind the mill",
    "beverage": "tea was poured at noon",
    "infant": "the baby cried until dawn",
    "vessel": "two ships lay in the harbour",
    "timber": "wood is stacked beside the church",
    "currency": "coins were found below the floor",
}
QUESTIONS = ["Which {}?", "Anything on some {}?"]
PASSAGES = ["{}.", "Yesterday, {}.", "They wrote that {}.", "As always, {}."]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    records = [
        {"question": question.format(word), "passage": passage.format(text)}
        for word, text in WORDS.items()
        for passage in PASSAGES
        for question in QUESTIONS
    ]
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return file


@pytest.fixture(scope="module")
def vectors(tiny_model: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that training on the pairs left."""
    output = tmp_path_factory.mktemp("run") / "run"
    options = {"segments": 1, "batch_size": 8, "steps": 40, "eval_every": 40, "learning_rate": 1e-2, "device": "cpu"}
    train(TrainConfig.of(task="retrieval", data=[str(pairs)], model=str(tiny_model), output=str(output), **options))
    return output / "best"


@pytest.fixture(scope="module")
def seeing(tiny_model: Path, vectors: Path) -> LanguageModel:
    return memspan.load_model(tiny_model, encoder=vectors)


def read_all(lm: LanguageModel) -> memspan.Memory:
    memory = lm.new_memory()
    for word, text in WORDS.items():
        lm.read(f"{text.capitalize()}.", memory, source=word)
    return memory


def test_what_was_trained_finds_passages_by_meaning(seeing: LanguageModel, vectors: Path) -> None:
    memory = read_all(seeing)
    encoder = seeing.vectors.encoder
    assert encoder is not None
    assert memory.fingerprint.encoder == memspan.memory.EncoderFingerprint(encoder.identity, str(vectors), 384)
    first = [seeing.search(memory, f"Which {word}?", top=1, rerank=0)[0].source for word in WORDS]
    assert sum(source == word for source, word in zip(first, WORDS, strict=True)) >= 7
    own = [passage.source for passage in seeing.search(memory, "Anything on some canine?", top=1)]
    assert own == ["canine"]


def test_it_is_the_model_that_is_loaded(seeing: LanguageModel) -> None:
    """No second model: the reader of the vectors is that of the retrieval heads, which shares the model's weights."""
    assert vars(seeing.vectors.encoder)["_reader"] is seeing.encoder.reader


def test_the_cosines_count_as_they_did_on_held_out_pairs(
    seeing: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, encoder = read_all(seeing), seeing.vectors.encoder
    assert encoder is not None
    ranker = seeing.retriever.rankers["meaning"]
    shares = {}
    for scale in (None, 2 * WEIGHTS["meaning"], WEIGHTS["meaning"] / 2, 0.0):
        monkeypatch.setattr(encoder, "scale", scale)
        shares[scale] = ranker.scores(memory.view(), "Which canine?")
    full = shares[None]
    assert full is not None
    np.testing.assert_array_equal(shares[2 * WEIGHTS["meaning"]], full)
    np.testing.assert_allclose(shares[WEIGHTS["meaning"] / 2], full / 2, rtol=1e-5)
    assert shares[0.0] is None  # it abstains
    assert set(seeing.retriever.rankings(memory, "Which canine?")) == {"heads", "words"}


def test_a_folder_for_another_model_is_refused(vectors: Path, tmp_path: Path) -> None:
    other = save_tiny_model(tmp_path / "other", seed=1)  # of the same shape, with the same tokenizer
    with pytest.raises(UsageError, match=r"were trained for the model .*: load that model \(--model "):
        memspan.load_model(other, encoder=str(vectors))


def test_a_folder_that_holds_no_vectors_is_refused(tiny_model: Path, vectors: Path) -> None:
    with pytest.raises(UsageError, match=r"is the folder of a run: its model is .*best"):
        memspan.load_model(tiny_model, encoder=vectors.parent)
    with pytest.raises(UsageError, match="`encoder` must be a string or a path"):
        memspan.load_model(tiny_model, encoder=7)  # type: ignore[arg-type]


def test_forks_keep_the_vectors_and_old_memories_have_none(
    tiny_model: Path, seeing: LanguageModel, vectors: Path, tmp_path: Path
) -> None:
    memory = read_all(seeing)
    memory.save(tmp_path / "m")
    fork = memspan.load_memory(tmp_path / "m", expect=seeing.fingerprint).fork(tmp_path / "fork")
    seeing.read("The doctor and the dog met.", fork, source="later")
    assert set(seeing.retriever.rankings(fork, "Which canine?")) == {"heads", "words", "meaning"}
    assert fork.fingerprint == memory.fingerprint
    old = memspan.load_model(tiny_model, encoder=None).read("The dog sleeps.", source="book")
    assert set(seeing.retriever.rankings(old, "Which canine?")) == {"heads", "words"}
    seeing.read("The cat sleeps.", old, source="later")
    assert old.fingerprint.encoder is None
    again = shutil.copytree(vectors, tmp_path / "again")  # as if trained once more: its files differ
    config = again / "config.json"
    config.write_text(config.read_text("utf-8") + "\n", "utf-8")
    write_checksums(again)
    retrained = memspan.load_model(tiny_model, encoder=again)
    with pytest.warns(MissingEncoder, match="but loaded is"):
        retrained.search(fork, "Which canine?", rerank=0)
    with pytest.raises(ForeignMemory, match=rf"Load it \(--encoder {vectors}"):
        retrained.read("More.", fork, source="more")


def test_the_commands(run: Run, pairs: Path, vectors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory records its encoder, so that only `read` has to name it; a moved folder is missed in a sentence."""
    folder = tmp_path / "vectors"
    shutil.copytree(vectors, folder)
    (tmp_path / "notes.txt").write_text("\n\n".join(f"{text.capitalize()}." for text in WORDS.values()), "utf-8")
    assert run("read", "notes.txt", "--into", "m", "--encoder", "vectors").code == 0
    assert f"vectors by {folder}" in run("inspect", "m").out
    found = json.loads(run("search", "m", "Which canine?", "--json").out)
    assert found
    again = run("read", "notes.txt", "--into", "m")
    assert again.code == 0, again.err
    folder.rename(tmp_path / "moved")
    missed = run("search", "m", "Which canine?")
    assert missed.code == 0
    assert "without a sentence encoder: There is no" in missed.err
    assert run("search", "m", "Which canine?", "--encoder", "moved").err == ""
    monkeypatch.setenv("MEMSPAN_ENCODER", "moved")
    assert run("read", "notes.txt", "--into", "new").code == 0
    assert "vectors by" in run("inspect", "new").out
