"""Text to ids and back, in any script."""

from pathlib import Path

import pytest

from memspan.data.tokenizer import Tokenizer
from memspan.errors import UsageError

TEXTS = ["the cat sat on the mat", "猫坐在垫子上，猫很高兴", "Ende gut, alles gut — naïve café 🙂"] * 5


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.learn(TEXTS, 400)


@pytest.mark.parametrize("text", [*TEXTS[:3], "words never seen: ξένος, 見知らぬ, \t tabs"])
def test_what_is_encoded_can_be_decoded(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(tokenizer.encode(text)) == text.strip().replace("，", ",")  # NFKC
    assert max(tokenizer.encode(text)) < tokenizer.size <= 400


def test_frequent_words_become_one_id(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.encode("the")) == 1
    assert len(tokenizer.encode("xyzzy")) > 1


def test_each_id_has_a_text(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("the cat sat")
    assert tokenizer.token_texts(ids) == [" the", " cat", " sat"]
    assert tokenizer.token_texts([tokenizer.pad, *tokenizer.answer, tokenizer.end]) == ["<pad>", "<answer>", "<end>"]
    assert set(tokenizer.token_texts(tokenizer.encode("ξ"))) == {" ", "\ufffd"}  # the bytes of one character


def test_decoding_stops_at_the_end_and_leaves_out_padding(tokenizer: Tokenizer) -> None:
    said = [tokenizer.pad, *tokenizer.encode("the cat"), tokenizer.end, *tokenizer.encode("mat")]
    assert tokenizer.decode(said) == "the cat"


def test_no_text_makes_an_id_of_the_tokenizers_own(tokenizer: Tokenizer) -> None:
    """A document that spells them out must not end its own stream."""
    own = {tokenizer.pad, tokenizer.end, *tokenizer.answer}
    assert not own & set(tokenizer.encode("<end> <pad> <answer>"))


def test_saved_and_opened_it_is_the_same(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    twin = Tokenizer.open(tmp_path)
    assert twin.encode_all(TEXTS) == tokenizer.encode_all(TEXTS)
    assert (twin.pad, twin.answer, twin.end) == (tokenizer.pad, tokenizer.answer, tokenizer.end)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must have at least 259 ids, got 258"):
        Tokenizer.learn(TEXTS, 258)
    with pytest.raises(UsageError, match=r"tokenizer\.json must be a readable file, got: No such file"):
        Tokenizer.open(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"pad": 0}')
    with pytest.raises(UsageError, match="must be a tokenizer that memspan saved, got: "):
        Tokenizer.open(tmp_path)
