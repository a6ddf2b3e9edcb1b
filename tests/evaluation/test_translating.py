"""Translating with a translation memory: the most similar known pairs are shown, and what follows them is the translation."""

import json
from pathlib import Path

import pytest

from memspan.assistant.answerers import answerer_of
from memspan.errors import UsageError
from memspan.evaluation.translating import MEMORY, RANDOM, compare_translation, conversation, prompt
from memspan.tasks import Translation, build
from memspan.training.config import TrainConfig
from tests.commands import Run
from tests.servers import Reply, as_json, completion, serving

KNOWN = [{"source": "I am tired.", "target": "我累了。"}, {"source": "I am  hungry.", "target": "我饿了。"}]
NOUNS = ("mayor", "blacksmith", "gardener", "violinist", "captain", "teacher", "farmer", "painter", "nurse", "judge")
MODELS = {"object": "list", "data": [{"id": "m", "object": "model"}]}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Sentences whose noun is known only from the most similar pairs."""
    path = tmp_path / "pairs.tsv"
    verbs = ("sings", "waits", "rests", "leaves")
    rows = [f"A {noun} {verb}.\t{noun.upper()} {verb}" for noun in NOUNS for verb in verbs]
    path.write_text("source\ttarget\n" + "\n".join(rows) + "\n", "utf-8")
    return path


def config(pairs: Path, tiny_model: Path, **options: object) -> TrainConfig:
    settings = {"answer_tokens": 8, "held_out": 0.25}
    return TrainConfig.of(
        task="translation", model=str(tiny_model), data=[str(pairs)], task_settings=settings, device="cpu", **options
    )


def test_the_most_similar_pair_stands_last() -> None:
    assert prompt("I am late.", KNOWN) == "I am hungry. = 我饿了。\nI am tired. = 我累了。\nI am late. ="
    turns = conversation("I am late.", KNOWN)
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert turns[0]["content"].endswith("\n\nI am hungry.")
    assert [turn["content"] for turn in turns[1:]] == ["我饿了。", "I am tired.", "我累了。", "I am late."]


def test_similar_sentences_are_known_ones(pairs: Path) -> None:
    task = build("translation", data=str(pairs), vocabulary=300)
    assert isinstance(task, Translation)
    (found,) = task.similar(["A mayor speaks."], 3)
    assert len(found) == 3
    assert all(record in task.records for record in found)
    known = task.records[0]
    assert task.similar([str(known["source"])], 1) == [[known]]
    fewer = task.with_records(task.records[1:3])
    assert {str(r["source"]) for r in fewer.similar([str(known["source"])], 5)[0]} == {
        str(r["source"]) for r in task.records[1:3]
    }


def test_a_server_that_repeats_the_pair_before_is_as_good_as_the_most_similar_sentence(
    pairs: Path, tiny_model: Path
) -> None:
    def route(path: str, body: object) -> Reply:
        if path == "/v1/models":
            return as_json(MODELS)
        assert isinstance(body, dict)
        return completion(body["messages"][-2]["content"])

    with serving(route) as server:
        answerer = answerer_of(server.url, pytest.fail)
        compared = compare_translation(config(pairs, tiny_model), [0, 1], 5, 3, answerer=answerer)
        sent = server.bodies
    memory, others = compared.contenders
    assert (memory.name, others.name, compared.metric) == (MEMORY, RANDOM, "chrF")
    assert compared.baselines["most similar sentence"] == pytest.approx(memory.mean, abs=15)
    assert memory.mean > others.mean
    assert len(sent) == 2 * 2 * 5
    assert all(len(body["messages"]) == 7 for body in sent)
    assert memory.parameters == 0 < memory.state_bytes


def test_the_command_with_a_local_model(run: Run, pairs: Path, tiny_model: Path) -> None:
    done = run(
        *("compare", "--task", "translation", "--model", str(tiny_model), "--data", str(pairs), "--shots", "2"),
        *("--task-settings", "answer_tokens=4", "--limit", "2", "--seeds", "1", "--json"),
    )
    assert done.code == 0, done
    compared = json.loads(done.out)
    assert [each["name"] for each in compared["contenders"]] == [MEMORY, RANDOM]
    assert compared["contenders"][0]["parameters"] > 0


def test_what_cannot_be_compared(pairs: Path, tiny_model: Path) -> None:
    with pytest.raises(UsageError, match="limit and shots must be at least 1"):
        compare_translation(config(pairs, tiny_model), [0], 5, 0)
    with pytest.raises(UsageError, match="is not trained: leave out `lora`"):
        compare_translation(config(pairs, tiny_model, lora=4), [0], 5, 2)
