"""Which tokens an answer rests on, of models whose answers rest on one word; and the pages that show it."""

import json
import math
import random
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from memspan.assistant.loading import load_model
from memspan.errors import UsageError
from memspan.evaluation.predict import reopen
from memspan.explain import METHODS, Explanation, explain, explain_recall, render
from memspan.explain.page import Bar, Cell, Page, ShadedSpan, ShadedText, Table
from memspan.explain.token_spans import token_spans
from memspan.memory.index.head_scores import head_scores
from memspan.models.scratch import ScratchConfig, ScratchModel
from memspan.tasks.text.classification import Classification
from memspan.training.build import build_task, model_config
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.commands import Run
from tests.tiny import logbook

FILLER = (
    "the",
    "sea",
    "is",
    "wide",
    "and",
    "our",
    "ship",
    "sails",
    "on",
    "with",
    "hope",
    "under",
    "low",
    "grey",
    "sky",
)
KEYS = {"apple": "fruit", "hammer": "tool", "锤子": "tool"}
SEGMENT = 16
TEXT = "our hammer is the ship and the sky is low and the sea is wide with hope under grey the ship sails on"


@pytest.fixture
def run(run: Run) -> Run:
    """Run `memspan explain` in this process."""
    return partial(run, "explain")


def refused(run: Run, *arguments: str) -> str:
    """The one sentence in which a request is refused."""
    outcome = run(*arguments)
    assert outcome.code == 2
    return outcome.sentence


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of gates and attention that learned labels which one word decides: without it, the label is another."""
    folder, draw = tmp_path_factory.mktemp("explain"), random.Random(0)
    with (folder / "letters.jsonl").open("w", encoding="utf-8") as file:
        for _ in range(300):
            words = draw.choices(FILLER, k=draw.randint(6, 26))
            key = draw.choice([None, *KEYS])
            if key is not None:
                words.insert(draw.randrange(len(words)), key)
            label = KEYS.get(key, "nothing")
            print(json.dumps({"text": " ".join(words), "label": label}, ensure_ascii=False), file=file)
    layer = [
        {"name": "sink_window", "sinks": 0, "window": SEGMENT, "block": SEGMENT, "heads": 2},
        {"name": "lstm"},
        {"name": "retrieval", "block": 4, "top": 2, "recent": 0, "heads": 2},
    ]
    config = TrainConfig.of(
        task="classification",
        data=[str(folder / "letters.jsonl")],
        task_settings={"segment": SEGMENT, "vocabulary": 300},
        segments=4,
        layers=[layer],
        width=24,
        batch_size=16,
        steps=100,
        learning_rate=1e-2,
        output=str(folder / "run"),
    )
    report = train(config)
    assert report.score.accuracy > 0.95
    return folder / "run" / "best"


def word_of(found: Explanation, word: str) -> list[int]:
    """The pieces that a word is made of."""
    joined, ends = "".join(found.tokens), np.cumsum([len(one) for one in found.tokens])
    start = joined.index(word)
    return [place for place, end in enumerate(ends) if start < end <= start + len(word)]


@pytest.mark.parametrize("method", ["gradients", "occlusion"])
@pytest.mark.parametrize(
    ("text", "word"), [(TEXT, "hammer"), (TEXT.replace("hammer", "apple"), "apple"), (f"{TEXT} 锤子 on", "锤子")]
)
def test_the_word_that_decides_is_found(checkpoint: Path, method: str, text: str, word: str) -> None:
    if word == "锤子":
        text = text.replace("hammer", "ship")
    found = explain(checkpoint, text, method=method)
    assert found.answer == KEYS[word]
    assert "".join(found.tokens).strip() == text
    inside = word_of(found, word)
    values = np.abs(found.views[0].values)
    assert int(values.argmax()) in inside
    decisive = found.segment_of[inside[-1]]
    assert max(found.segments, key=lambda one: one.value).number == decisive
    assert max(found.segments, key=lambda one: one.fall).number == decisive


def test_attributions_add_up_to_what_the_text_contributes(checkpoint: Path) -> None:
    found = explain(checkpoint, TEXT)
    contributed = found.log_probability - found.log_probability_without_text
    assert found.delta is not None
    assert sum(found.views[0].values) - contributed == pytest.approx(found.delta, abs=1e-3)
    assert abs(found.delta) < 0.1 * contributed  # on the way retrieval chooses other blocks, which no integral follows
    assert sum(one.value for one in found.segments) == pytest.approx(sum(found.views[0].values))
    assert found.before_window is not None
    assert found.within_window is not None
    assert found.before_window + found.within_window == pytest.approx(sum(found.views[0].values), abs=1e-4)
    assert found.before_window == pytest.approx(sum(one.value for one in found.segments if one.before_window), abs=1e-4)


def test_a_fall_is_what_the_model_says_without_the_segment(checkpoint: Path) -> None:
    """Naive: the ids of one segment replaced by hand."""
    found = explain(checkpoint, TEXT)
    model, task, config = reopen(checkpoint)
    ids = task.streams([{"text": TEXT, "label": found.answer}], config.task.segments).ids
    ids = ids[:, ids[0] != task.tokenizer.pad]  # segments are counted from the first token that is read

    def log_probability(ids: torch.Tensor) -> float:
        with torch.no_grad():
            return float(model(ids)[0][0, -1].log_softmax(0)[task.tokenizer.size + task.numbers[found.answer]])

    assert found.log_probability == pytest.approx(log_probability(ids), abs=1e-5)
    assert found.probability == pytest.approx(math.exp(found.log_probability))
    falls = []
    for start in range(0, ids.shape[1] - 1, SEGMENT):
        without = ids.clone()
        without[0, start : min(start + SEGMENT, ids.shape[1] - 1)] = task.tokenizer.pad  # the last token asks
        falls.append(log_probability(ids) - log_probability(without))
    assert [one.fall for one in found.segments] == pytest.approx(falls, abs=1e-5)
    window = (ids.shape[1] - 1) // SEGMENT * SEGMENT  # the block of the token that asks
    ends = [min(start + SEGMENT, ids.shape[1] - 1) for start in range(0, ids.shape[1] - 1, SEGMENT)]
    assert [segment.before_window for segment in found.segments] == [end <= window for end in ends]


def test_attention_and_gates_are_those_of_each_layer(checkpoint: Path) -> None:
    found = explain(checkpoint, TEXT, method="attention")
    assert len(found.views) == 3  # the mean, the window, and what was retrieved
    window, retrieved = found.views[1].values, found.views[2].values
    inside = [place for place, number in enumerate(found.segment_of) if number == found.segments[-1].number]
    assert sum(window) == pytest.approx(sum(window[place] for place in inside))
    assert 0 < sum(retrieved) <= 1 + 1e-5
    gates = explain(checkpoint, TEXT, method="gates")
    assert [view.title.split(": ")[1] for view in gates.views] == ["i", "f", "o"]
    assert all(0 <= value <= 1 for view in gates.views for value in view.values)
    assert gates.before_window is None


def test_an_answer_of_several_tokens(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token of it is explained, and the whole is their sum."""
    monkeypatch.setattr(Classification, "answer_ids", lambda task, example: task.tokenizer.encode(" low hope sea"))
    found = explain(checkpoint, TEXT)
    whole, *parts = found.views
    assert len(parts) == len(found.answer_tokens) > 1
    total = np.sum([view.values for view in parts], 0)
    assert whole.values == pytest.approx(total.tolist(), abs=1e-5)
    assert found.probability == pytest.approx(math.prod(one.probability for one in found.answer_tokens))
    assert "token 2 of the answer" in render(found.page())


def test_a_text_that_is_too_long_says_what_was_not_read(checkpoint: Path) -> None:
    found = explain(checkpoint, TEXT + " sea" * 200, method="occlusion")
    assert found.tokens_left_out >= 150
    assert found.segments[0].number == 1
    assert f"{found.tokens_left_out:,} tokens at the end" in render(found.page())


# ---- the page


class Strict(HTMLParser):
    """Every element closed in its order; what elements and attributes there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_page_is_self_contained_and_escapes_the_text(checkpoint: Path, run: Run, method: str) -> None:
    evil = f'<script>alert("锤子")</script> & {TEXT}'
    code, out, err = run(str(checkpoint), evil, "--method", method, "--html", "why.html")
    assert (code, err) == (0, "")
    assert "why.html" in out
    page = Path("why.html").read_text("utf-8")
    parsed = Strict(page)
    assert "<script>alert(" in parsed.text
    assert not parsed.seen & {"script", "link", "img", "iframe", "object", "base"}
    assert not parsed.attributes & {"src", "href", "onclick", "onload"}
    assert "url(" not in page
    assert '<meta charset="utf-8">' in page
    assert 'lang="zh"' in page
    assert "prefers-color-scheme: dark" in page


def test_both_signs_are_told_apart_without_colour() -> None:
    text = ShadedText(
        "t", "a", [ShadedSpan("for", 2.0, 2.0), ShadedSpan("against", -1.0, -1.0), ShadedSpan("neither", 0.0, 0.0)]
    )
    assert text.classes() == ["plus5", "minus2", ""]
    table = Table("t", ["a"], [[Cell("", Bar(-4.0))], [Cell("", Bar(1.0))]])
    assert table.widths() == [[100], [25]]
    page = render(Page("t", "q", "a", [], [], [table], [text], signed=True))
    Strict(page)
    assert 'class="minus2" title="-1.0000"' in page
    assert "underline wavy" in page
    assert 'class="bar minus" style="width: 100%"' in page


def test_a_character_of_several_tokens_is_one_piece(checkpoint: Path) -> None:
    _, task, _ = reopen(checkpoint)
    text = "龘 sails 🚢 on"
    ids = task.tokenizer.encode(text)
    found = token_spans(ids, lambda some: task.tokenizer.inner.decode(some, skip_special_tokens=False))
    assert "".join(one for one, _ in found).strip() == text
    assert [place for _, places in found for place in places] == list(range(len(ids)))
    assert any("龘" in one and len(places) > 1 for one, places in found)


# ---- memories


FACT = "The zinc trunk of Commander Elspeth stands beneath the third stair."


def test_a_memory_is_explained_by_what_was_recalled(tiny_model: Path, run: Run, tmp_path: Path) -> None:
    lm = load_model(str(tiny_model))
    text, question = logbook()[:9000], "Where does the zinc trunk of Commander Elspeth stand?"
    memory = lm.read(f"{text[:4000]}\n\n<script>{FACT}</script>\n\n{text[4000:]}", source="book")
    found = explain_recall(lm, memory, question)
    best = found.passages[0]
    assert f"<script>{FACT}" in "".join(best.tokens)
    number = next(n for n in range(len(memory)) if FACT in memory.passage(n).text)
    assert best.score == pytest.approx(best.heads + best.words + best.meaning + best.reranked, abs=1e-4)
    asked = head_scores(lm.encoder.question(question), memory.blocks())
    assert sum(best.values) == pytest.approx(float(asked[number]), rel=1e-3)
    answer = lm.ask(memory, question)
    gains = {text.number: text.gain for text in lm.carried_by(question, answer)}
    assert [passage.carried for passage in found.passages] == pytest.approx(
        [gains[n] for n in answer.numbers], abs=1e-4
    )
    assert any(passage.carried for passage in found.passages)
    assert found.confidence == pytest.approx(answer.confidence)
    page = render(found.page())
    parsed = Strict(page)
    assert FACT in parsed.text
    assert "script" not in parsed.seen

    memory.save(tmp_path / "book.mem")
    code, out, err = run("book.mem", question, "--json", "--html", "why.html")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["passages"][0]["tokens"] == best.tokens
    Strict(Path("why.html").read_text("utf-8"))
    assert "leave out --method" in refused(run, "book.mem", question, "--method", "gates")
    assert "is empty" in refused(run, "book.mem", " ")


# ---- what cannot be


def test_json_and_a_file(checkpoint: Path, run: Run) -> None:
    Path("letter.txt").write_text(TEXT, "utf-8")
    code, out, err = run(str(checkpoint), "--file", "letter.txt", "--json", "--method", "occlusion")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["answer"] == "tool"
    assert len(told["tokens"]) == len(told["views"][0]["values"]) == len(told["segment_of"])


def test_what_cannot_be_is_said_in_a_sentence(checkpoint: Path, run: Run, tmp_path: Path) -> None:
    model = str(checkpoint)
    assert "There is no method 'magic'. Known: attention, gates," in refused(run, model, TEXT, "--method", "magic")
    assert "the text is empty" in refused(run, model, "  ")
    assert "Give one text" in refused(run, model)
    assert "Give one text" in refused(run, model, TEXT, "--file", "letter.txt")
    assert "none.txt is not readable" in refused(run, model, "--file", "none.txt")
    assert "Writing the page to nowhere/why.html failed" in refused(
        run, model, TEXT, "--method", "gates", "--html", "nowhere/why.html"
    )
    assert "There is no folder nowhere" in refused(run, "nowhere", TEXT)

    synthetic = tmp_path / "synthetic"
    config = TrainConfig.of(task="recall", depth=1, width=8)
    ScratchModel(model_config(config, build_task(config))).save_pretrained(synthetic)
    config.save(synthetic / "config.yaml")
    assert "trained for recall, which has no predictions for texts" in refused(run, str(synthetic), TEXT)


def test_a_model_without_gates_or_attention(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, task, config = reopen(checkpoint)
    bare = ScratchModel(ScratchConfig(vocabulary=task.vocabulary, width=8, layers=[[]]))
    monkeypatch.setattr("memspan.explain.attributions.reopen", lambda _: (bare.eval(), task, config))
    with pytest.raises(UsageError, match="No layer of this model has gates"):
        explain(checkpoint, TEXT, method="gates")
    with pytest.raises(UsageError, match="No layer of this model attends"):
        explain(checkpoint, TEXT, method="attention")
