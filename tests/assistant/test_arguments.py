"""Values of another type than the public functions take: a sentence that names the argument, and never a traceback."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import memspan
from memspan import LanguageModel, Memory, Sampling, attached, load_memory, load_model
from memspan.errors import UsageError
from memspan.memory.index.calibration import RetrievalHeads
from tests.assistant.conftest import HEADS

Call = Callable[[LanguageModel, Memory, Path], Any]


def enter(*arguments: Any) -> None:
    with attached(*arguments):
        pass


def saved(memory: Memory, folder: Path) -> Path:
    return memory.fork(folder / "m").path


CALLS: dict[str, Call] = {
    "`memory` must be a Memory, got the path 'book.mem': open one by memspan.load_memory": lambda lm, m, p: lm.ask(
        "book.mem", "Who?"
    ),
    "`memory` must be a Memory, got the path '/a/book": lambda lm, m, p: lm.search(Path("/a/book.mem"), "Who?"),
    "`memory` must be a Memory, got NoneType": lambda lm, m, p: lm.ask(None, "Who?"),
    "`memory` must be a Memory, got dict": lambda lm, m, p: lm.read("text", {}),
    "`memory` must be a Memory, got View": lambda lm, m, p: lm.read("text", m.view()),
    "`memory` must be a Memory, got the path 'm'": lambda lm, m, p: lm.remember("m", "text", source="a"),
    "`text` must be a string, a document or strings, got bytes": lambda lm, m, p: lm.read(b"bytes"),
    "`text` must be a string, a document or strings, got int": lambda lm, m, p: lm.read(123),
    "`text` must be a string, a document or strings, got NoneType": lambda lm, m, p: lm.read(None),
    "`text` must be a string, a document or strings, got dict": lambda lm, m, p: lm.read({"a": "text"}),
    "`text` must be a string or strings, got bytes": lambda lm, m, p: lm.read([b"bytes"]),
    "`text` must be a string or strings, got int": lambda lm, m, p: lm.read(iter(["text", 3])),
    "`text` must be a string, got int": lambda lm, m, p: lm.remember(m, 3, source="a"),
    "`source` must be a string, got int": lambda lm, m, p: lm.read("text", source=3),
    "`source` must be a string, got NoneType": lambda lm, m, p: lm.remember(m, "text", source=None),
    "`question` must be a string, got NoneType": lambda lm, m, p: lm.search(m, None),
    "`question` must be a string, got list": lambda lm, m, p: lm.ask(m, ["Who?"]),
    "`question` must be a string, got bytes": lambda lm, m, p: lm.ask(m, b"Who?"),
    "`top` must be at least 1, got -1": lambda lm, m, p: lm.search(m, "Who?", top=-1),
    "`top` must be at least 1, got 0": lambda lm, m, p: lm.search(m, "Who?", top=0),
    "`top` must be a whole number, got float": lambda lm, m, p: lm.search(m, "Who?", top=2.5),
    "`top` must be a whole number, got True": lambda lm, m, p: lm.search(m, "Who?", top=True),
    "`rerank` must be a whole number, got str": lambda lm, m, p: lm.search(m, "Who?", rerank="no"),
    "`rerank` must be at least 0, got -3": lambda lm, m, p: lm.ask(m, "Who?", rerank=-3),
    "`among` must be a function of a passage, got list": lambda lm, m, p: lm.search(m, "Who?", among=["a"]),
    "`budget` must be a whole number, got str": lambda lm, m, p: lm.ask(m, "Who?", budget="x"),
    "`budget` must be at least 0, got -1": lambda lm, m, p: lm.ask(m, "Who?", budget=-1),
    "`sampling` must be a Sampling, got dict": lambda lm, m, p: lm.ask(m, "Who?", sampling={"seed": 1}),
    "`on_text` must be a function of a text, got list": lambda lm, m, p: lm.ask(m, "Who?", on_text=[]),
    "`path` must be the path of a folder, got NoneType": lambda lm, m, p: load_memory(None),
    "`path` must be the path of a folder, got int": lambda lm, m, p: load_memory(3),
    "`path` must be the path of a folder, got ''": lambda lm, m, p: load_memory(""),
    r"`path` must be the path of a folder, got 'a\x00b'": lambda lm, m, p: load_memory("a\0b"),
    "`path` must be the path of a folder, got list": lambda lm, m, p: lm.new_memory([p]),
    "`path` must be the path of a folder, got dict": lambda lm, m, p: m.save({}),
    "`path` must be the path of a folder, got tuple": lambda lm, m, p: m.fork(()),
    "`expect` must be a Fingerprint, got str": lambda lm, m, p: load_memory(saved(m, p), expect="smollm2"),
    "`fingerprint` must be a Fingerprint; a model's `new_memory`": lambda lm, m, p: Memory("smollm2"),
    "`texts` must be a list of EncodedText; a model's `read` makes them of a text, got int": lambda lm, m, p: m.append(
        3
    ),
    "`texts` must be a list of EncodedText; a model's `read` makes": lambda lm, m, p: m.append("text"),
    "`texts` must be a list of EncodedText; a model's": lambda lm, m, p: m.append([{"text": "a"}]),
    "`pattern` must be a string, got int": lambda lm, m, p: m.forget(3),
    "`other` must be a Memory; memspan.load_memory(path) opens one, got str": lambda lm, m, p: m.merge("book.mem"),
    "`model` must be a transformers model, got int": lambda lm, m, p: enter(3),
    "`mechanism` must be a name, a mechanism over keys and values, or a list of": lambda lm, m, p: enter(lm.model, 3),
    "`mechanism` must be a list of mechanisms over keys": lambda lm, m, p: enter(lm.model, [3, 4]),
    "There is no mechanism 'sieve'": lambda lm, m, p: enter(lm.model, "sieve"),
    "The model must be a transformers model": lambda lm, m, p: enter(torch.nn.Linear(2, 2)),
    "`max_new_tokens` must be a whole number, got str": lambda lm, m, p: Sampling(max_new_tokens="many"),
    "`max_new_tokens` must be at least 1, got 0": lambda lm, m, p: Sampling(max_new_tokens=0),
    "`temperature` must be a number, got NoneType": lambda lm, m, p: Sampling(temperature=None),
    "temperature must be 0 or more and finite, got nan": lambda lm, m, p: Sampling(temperature=float("nan")),
    "`top_p` must be a number, got str": lambda lm, m, p: Sampling(top_p="0.9"),
    "`seed` must be a whole number, got float": lambda lm, m, p: Sampling(seed=0.5),
    "`model` must be a transformers model; memspan.load_model(name) loads": lambda lm, m, p: LanguageModel(
        "smollm2", 3
    ),
    "The tokenizer must be a fast one of transformers, got NoneType": lambda lm, m, p: LanguageModel(lm.model, None),
    "`heads` must be RetrievalHeads, got list": lambda lm, m, p: LanguageModel(lm.model, lm.tokenizer, heads=[(0, 1)]),
    "heads must lie within the 2 layers and 4 query heads": lambda lm, m, p: LanguageModel(
        lm.model, lm.tokenizer, heads=RetrievalHeads(((0, 4),), 1.0, 1.0)
    ),
    "heads must be at least one, and each a different one": lambda lm, m, p: LanguageModel(
        lm.model, lm.tokenizer, heads=RetrievalHeads(((0, 1), (0, 1)), 1.0, 1.0)
    ),
    "needs its tokenizer: memspan.load_model(model, tokenizer=tokenizer), or": lambda lm, m, p: load_model(lm.model),
    "`tokenizer` belongs to a model that is passed in": lambda lm, m, p: load_model("smollm2", tokenizer=lm.tokenizer),
    "`name` must be a string or a path, got None": lambda lm, m, p: load_model(None),
    "`name` must be a string or a path, got 3": lambda lm, m, p: load_model(3),
    "`name` must be a string or a path, got ''": lambda lm, m, p: load_model(""),
    "There is no model 'http://example.org/x' here": lambda lm, m, p: load_model("http://example.org/x"),
    "give the new one with --model": lambda lm, m, p: load_model(p / "moved" / "away"),
    "`dtype` must be one of auto, float32": lambda lm, m, p: load_model("nowhere", dtype=torch.float32),
    "`device` must be the name of a device": lambda lm, m, p: load_model("nowhere", device=[]),
}


@pytest.fixture(scope="module")
def memory(lm: LanguageModel) -> Memory:
    return lm.read("The parson kept a dozen of them in a zinc trunk.", source="a")


@pytest.mark.parametrize("sentence", CALLS)
def test_a_value_of_another_type_is_refused(lm: LanguageModel, memory: Memory, sentence: str, tmp_path: Path) -> None:
    before = memory.snapshot
    with pytest.raises(UsageError, match=re.escape(sentence)):
        CALLS[sentence](lm, memory, tmp_path)
    assert memory.snapshot is before


def test_a_model_object_is_a_language_model_with_its_tokenizer(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memspan.assistant.language_model.calibrate", lambda *_: HEADS)
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    lm = memspan.load_model(model, tokenizer=AutoTokenizer.from_pretrained(tiny_model))
    assert lm.model is model
    assert lm.search(lm.read("A zinc trunk."), "zinc")[0].text == "A zinc trunk."
