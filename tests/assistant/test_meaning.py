"""The third ranker through the product: vectors are kept with the memory, compared, and missed without harm."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import memspan
from memspan import LanguageModel, Memory
from memspan.assistant.complement import READ_CALL
from memspan.assistant.confidence import SUPPORTED, WITH_MEANING, WITH_NAMES, WITHOUT_MEANING, confidence, features
from memspan.assistant.likeness import Likeness
from memspan.assistant.quotes import Evidence
from memspan.errors import ForeignMemory, UsageError
from memspan.memory.context import with_context
from memspan.memory.index.passage_vectors import LARGEST, MissingEncoder, quantise
from memspan.memory.index.rankers import RANKERS, Encoders, make_rankers
from memspan.pretrained import encoders
from memspan.pretrained.sentence_encoder import SentenceEncoder
from tests.tiny import logbook, save_tiny_encoder

QUESTION = "What was the weather on the gallery?"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> SentenceEncoder:
    return encoders.load(str(save_tiny_encoder(tmp_path_factory.mktemp("encoder"))), dtype="float32")


@pytest.fixture(scope="module")
def seeing(lm: LanguageModel, encoder: SentenceEncoder) -> LanguageModel:
    """The model of the other tests with a sentence encoder."""
    return LanguageModel(lm.causal_lm, lm.tokenizer, heads=lm.heads, sentence_encoder=encoder)


def vectors_of(memory: Memory) -> np.ndarray:
    return np.concatenate([block.vectors for block in memory.blocks() if block.vectors is not None])


def test_passages_are_ranked_by_the_cosine_of_their_vectors(seeing: LanguageModel, encoder: SentenceEncoder) -> None:
    memory = seeing.read(logbook()[:6000], source="book")
    assert memory.fingerprint.encoder == seeing.vectors.fingerprint
    texts = [with_context(memory.passage(number)) for number in range(len(memory))]
    question = encoder.question(QUESTION)
    assert question is not None
    cosines = seeing.retriever.rankers["meaning"].scores(memory.view(), QUESTION)
    np.testing.assert_allclose(cosines, encoder.passages(texts) @ question, atol=0.01)
    shares = seeing.retriever.rankings(memory, QUESTION)
    assert set(shares) == set(RANKERS)
    found = seeing.search(memory, QUESTION, top=len(memory), rerank=0)
    expected = sum(shares.values())
    assert [passage.score for passage in found] == pytest.approx([float(expected[p.number]) for p in found], abs=1e-3)


def test_a_stored_vector_keeps_its_direction() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 384)).astype(np.float32)
    vectors[7] = 0
    stored = quantise(vectors)
    assert stored.dtype == np.int8
    assert np.abs(stored).max() == LARGEST
    assert not stored[7].any()
    rest = np.arange(50) != 7
    back = stored[rest] / np.linalg.norm(stored[rest], axis=1, keepdims=True)
    ahead = vectors[rest] / np.linalg.norm(vectors[rest], axis=1, keepdims=True)
    assert (back * ahead).sum(1).min() > 0.9995


def test_vectors_do_not_depend_on_how_the_text_arrives(seeing: LanguageModel) -> None:
    text = logbook()[:6000]
    whole = seeing.read(text, source="book")
    parts = seeing.read(iter([text[:2500], text[2500:2600], text[2600:]]), source="book")
    same = [whole.passage(n).text == parts.passage(n).text for n in range(min(len(whole), len(parts)))]
    assert sum(same) > len(same) / 2
    for number in np.flatnonzero(same):
        np.testing.assert_array_equal(vectors_of(whole)[number], vectors_of(parts)[number])


def test_the_context_line_is_part_of_the_meaning(seeing: LanguageModel) -> None:
    plain = seeing.read("The lamp was out for an hour.", source="a")
    dated = seeing.read("# The gallery\n\nThe lamp was out for an hour.", source="a")
    last = [vectors_of(memory)[-1].astype(np.float32) for memory in (plain, dated)]
    assert not np.array_equal(*last)


def test_a_memory_without_vectors_is_searched_as_before(lm: LanguageModel, seeing: LanguageModel) -> None:
    memory = lm.read(logbook()[:6000], source="book")
    assert set(seeing.retriever.rankings(memory, QUESTION)) == {"heads", "words"}
    assert seeing.search(memory, QUESTION) == lm.search(memory, QUESTION)
    seeing.read("One more.", memory, source="later")
    assert all(block.vectors is None for block in memory.blocks())


def test_vectors_of_an_encoder_that_is_not_loaded_are_missed_and_not_mixed(
    lm: LanguageModel, seeing: LanguageModel, tmp_path: Path
) -> None:
    memory = seeing.read(logbook()[:3000], source="book")
    memory.save(tmp_path / "m")
    other = encoders.load(str(save_tiny_encoder(tmp_path / "other", seed=1)), dtype="float32")
    stranger = LanguageModel(lm.causal_lm, lm.tokenizer, heads=lm.heads, sentence_encoder=other)
    opened = memspan.load_memory(tmp_path / "m", expect=lm.fingerprint)
    with pytest.warns(MissingEncoder, match="which is not loaded. The search goes on without it"):
        assert set(lm.retriever.rankings(opened, QUESTION)) == {"heads", "words"}
    with pytest.warns(MissingEncoder, match="but loaded is"):
        stranger.search(opened, QUESTION)
    for model in (lm, stranger):
        with pytest.raises(ForeignMemory, match=r"Load it \(--encoder .*or read the documents into a new memory"):
            model.read("More.", opened, source="later")
    assert list(opened.sources) == ["book"]


def test_a_question_of_unknown_words_is_answered_by_the_other_rankers(seeing: LanguageModel) -> None:
    memory = seeing.read("灯塔的雾钟坏了。\n\nThe lamp was lit.", source="book")
    assert set(seeing.retriever.rankings(memory, "雾钟坏了吗")) == {"heads", "words"}


def test_passages_without_a_vector_are_neither_first_nor_last(seeing: LanguageModel) -> None:
    memory = seeing.read("灯塔的雾钟坏了。", source="zh")
    for number, text in enumerate(["The lamp was lit.", "Rain fell on the stair.", "The keeper was ill."]):
        seeing.read(text, memory, source=f"en-{number}")
    cosines = seeing.retriever.rankers["meaning"].scores(memory.view(), "Was the lamp lit?")
    assert cosines is not None
    assert cosines[0] == pytest.approx(cosines[1:].mean(), abs=1e-6)


# ---- the registry


def test_a_package_adds_a_ranker(seeing: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    class Longest:
        def __init__(self, encoders: Encoders) -> None:
            pass

        def scores(self, view: memspan.memory.View, question: str) -> np.ndarray:
            return np.array([view.passage(number).tokens for number in range(len(view))], np.float32)

    rankers = "memspan.memory.index.rankers"
    monkeypatch.setattr(f"{rankers}.plugin_names", lambda _: ["length"])
    monkeypatch.setattr(f"{rankers}.load_plugin", lambda *_: Longest)
    made = make_rankers(Encoders(seeing.encoder, seeing.vectors))
    assert list(made) == [*RANKERS, "length"]
    monkeypatch.setattr(seeing.retriever, "rankers", made)
    memory = seeing.read(logbook()[:6000], source="book")
    assert "length" in seeing.retriever.rankings(memory, QUESTION)
    monkeypatch.setattr(f"{rankers}.plugin_names", lambda _: ["heads"])
    with pytest.raises(UsageError, match="must have another name: memspan has a ranker 'heads'"):
        make_rankers(Encoders(seeing.encoder, seeing.vectors))


def test_sentences_are_compared_by_the_embedded_encoder_alone(
    seeing: LanguageModel, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = seeing.read("The light burns. The keeper sleeps.\n\nAll is well.", source="book")

    def evidence() -> Evidence:
        return Evidence(memory.view(), QUESTION, seeing.search(memory, QUESTION), seeing.retriever)

    assert evidence().sentence_meaning is None
    monkeypatch.setitem(encoders.EMBEDDED, encoder.name, encoders.EMBEDDED[encoders.DEFAULT])
    some, question = evidence(), encoder.question(QUESTION)
    assert question is not None
    np.testing.assert_allclose(some.sentence_meaning, encoder.passages(some.texts) @ question, atol=1e-5)
    assert features(some)[0] is WITH_MEANING
    assert 0 < confidence(some) < 1
    monkeypatch.setattr(encoder, "question", lambda text: None)  # of a question that it does not know
    assert features(evidence())[0] is WITHOUT_MEANING


def test_a_name_that_the_encoder_does_not_know_must_stand_in_the_passage(
    seeing: LanguageModel, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same wording with another name is no answer, however near in meaning."""
    monkeypatch.setitem(encoders.EMBEDDED, encoder.name, encoders.EMBEDDED[encoders.DEFAULT])
    monkeypatch.setattr(encoder, "knows", lambda word: word not in ("kemble", "penhale"))
    memory = seeing.read("The dog of Dr Kemble is called Caliban.", source="book")

    def evidence(question: str, **marks: str) -> Evidence:
        found = [replace(passage, marks=marks) for passage in seeing.search(memory, question)]
        some = Evidence(memory.view(), question, found, seeing.retriever)
        monkeypatch.setattr(Evidence, "sentence_meaning", np.full(len(some.sentences), 0.6, np.float32))
        monkeypatch.setattr(Likeness, "to_tokens", lambda self: np.full(len(some.sentences), 0.8))
        monkeypatch.setattr(Evidence, "word_likeness", np.full(len(some.sentences), 0.8))
        return some

    told, other = (evidence(f"What is the name of Dr {name}'s dog?") for name in ("Kemble", "Penhale"))
    assert (told.name_coverage, other.name_coverage) == ([1.0], [0.0])
    assert features(told)[0] is features(other)[0] is WITH_NAMES
    assert confidence(told) > SUPPORTED > confidence(other)
    misspelt = evidence("What is the name of Dr Kemmble's dog?")
    monkeypatch.setattr(encoder, "knows", lambda word: word not in ("kemble", "kemmble", "penhale"))
    assert misspelt.name_coverage == [1.0]
    labelled = evidence("What is the name of Dr Penhale's dog?", speaker="Penhale")
    assert labelled.name_coverage == [1.0]
    assert confidence(labelled) > confidence(other)
    for question in ("What is the name of the dog?", "What is the name of Dr KEMBLE's dog?", "Kemble?"):
        assert evidence(question).name_coverage is None
        assert features(evidence(question))[0] is WITH_MEANING


def test_an_answer_is_written_from_the_complement_of_the_best_passage_too(
    seeing: LanguageModel, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = seeing.read(logbook()[:6000], source="book")
    monkeypatch.setitem(encoders.EMBEDDED, encoder.name, encoders.EMBEDDED[encoders.DEFAULT])
    found = seeing.search(memory, QUESTION)
    monkeypatch.setattr("memspan.assistant.complement.complement", lambda *_: (3, READ_CALL))
    answer = seeing.ask(memory, QUESTION, passages=2, sampling=memspan.Sampling(max_new_tokens=2))
    assert [passage.number for passage in answer.passages] == [found[0].number, found[3].number]


def test_a_chat_recalls_the_complement_of_a_passage_that_bears_on_the_message(
    seeing: LanguageModel, encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = seeing.read(logbook()[:6000], source="book")
    monkeypatch.setitem(encoders.EMBEDDED, encoder.name, encoders.EMBEDDED[encoders.DEFAULT])
    found = seeing.search(memory, QUESTION)
    monkeypatch.setattr("memspan.assistant.complement.complement", lambda *_: (3, READ_CALL))
    confidences = {found[0].number: 0.5}  # the others bear on nothing by themselves
    monkeypatch.setattr(
        "memspan.assistant.chat.supported",
        lambda view, text, chosen, *_: [replace(each, confidence=confidences.get(each.number, 0.1)) for each in chosen],
    )
    chat = memspan.Chat(seeing, memory, passages=3, min_confidence=0.3)
    chat.messages(QUESTION)
    assert [passage.number for passage in chat.recalled] == [found[0].number, found[3].number]
    confidences[found[0].number] = 0.2
    chat.messages(QUESTION)
    assert chat.recalled == ()
