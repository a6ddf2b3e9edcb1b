"""Pretrained models: what is learned is little and is all that is saved, and reading in chunks is reading at once."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlamaForCausalLM, T5ForConditionalGeneration

from memspan.errors import UsageError
from memspan.evaluation.memory_vs_window import compare_memory_with_window
from memspan.evaluation.predict import predict
from memspan.mechanisms import build_over_keys
from memspan.models.folders import write_checksums
from memspan.models.saved import open_model
from memspan.pretrained.adapt import Pretrained, adapt
from memspan.pretrained.attach import attached
from memspan.state import losses, tensors
from memspan.tasks.data_source import DataSource
from memspan.tasks.text.classification import Classification
from memspan.training.build import build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from memspan.training.measure import measure

EXTRA = 4


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Texts of two kinds that share no word."""
    draw, path = random.Random(0), tmp_path_factory.mktemp("table") / "letters.csv"
    words = {"stay": ["garden", "soup", "view", "cook"], "leave": ["noise", "cold", "train", "late"]}
    rows = [f"{' '.join(draw.choices(words[label], k=draw.randint(4, 9)))},{label}" for label in [*words] * 20]
    path.write_text("text,label\n" + "\n".join(rows), "utf-8")
    return str(path)


def run(base: str, table: str, **changes: object) -> TrainConfig:
    settings = {
        "task": "classification",
        "model": base,
        "data": [table],
        "task_settings": {"segment": 16, "held_out": 0.4},
    }
    optimisation = {"segments": 3, "batch_size": 16, "steps": 16, "eval_every": 8, "warmup": 0.1, "learning_rate": 1e-2}
    return TrainConfig.of(**{**settings, **optimisation, **changes})


@pytest.mark.parametrize("kind", ["causal", "encoder", "seq2seq"])
@pytest.mark.parametrize("lora", [None, 4])
def test_little_is_learned_saved_and_opened_again(
    bases: dict[str, str], table: str, kind: str, lora: int | None, tmp_path: Path
) -> None:
    config = run(bases[kind], table, lora=lora, output=str(tmp_path / "run"))
    report = train(config)
    assert report.history[-1]["held_out_loss"] < 0.95 * report.history[0]["held_out_loss"]
    folder = tmp_path / "run" / "last"
    weights = load_file(folder / "model.safetensors")
    assert {name.split(".")[0] for name in weights} == ({"head"} if lora is None else {"head", "body"})
    assert all("lora_" in name for name in weights if name.startswith("body"))
    again, task = open_model(folder).eval(), build_task(config)
    batch = task.held_out().batch(4, 3, torch.Generator().manual_seed(3))
    report.model.eval()
    torch.testing.assert_close(again(batch.ids, None, 1)[0], report.model(batch.ids, None, 1)[0])
    texts = ["soup garden view", "late cold train cold"]
    assert predict(folder, texts) == task.predict(report.model, texts, 3)
    if lora is not None and kind == "causal":
        resumed = train(config, resume=True)  # it had ended: the weights are those that were saved
        torch.testing.assert_close(resumed.model.eval()(batch.ids, None, 1)[0], again(batch.ids, None, 1)[0])


def test_frozen_features_train_the_head_alone(bases: dict[str, str], table: str) -> None:
    torch.manual_seed(0)
    model = adapt(bases["causal"], 400 + EXTRA)
    assert {name.split(".")[0] for name in model.learned()} == {"head"}
    before = {name: weight.clone() for name, weight in model.body.state_dict().items()}
    report = train(run(bases["causal"], table, steps=3))
    after = report.model.body.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_words_are_learned_through_low_rank_changes(bases: dict[str, str]) -> None:
    """Without ids of a task's own the base's head speaks."""
    torch.manual_seed(0)
    model = adapt(bases["causal"], 400, lora=4)
    assert model.head is None
    ids = torch.randint(3, 400, (4, 24), generator=torch.Generator().manual_seed(0))
    optimizer, losses = torch.optim.AdamW(list(model.learned().values()), lr=3e-2), []
    for _ in range(20):
        logits, _ = model(ids)
        assert logits.shape == (4, 24, 400)
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3


@pytest.mark.parametrize("kind", ["causal", "encoder", "seq2seq"])
def test_chunks_are_the_whole(bases: dict[str, str], kind: str) -> None:
    """Also with padding on the left, where rows begin in different chunks."""
    torch.manual_seed(0)
    model = adapt(bases[kind], 400 + EXTRA, lora=2).eval()
    task = Classification(DataSource(limit=40), tokenizer=bases[kind], segment=32)
    ids = task.batch(5, 3, torch.Generator().manual_seed(1)).ids
    ids[0, :20] = 0
    assert (ids[:, 0] == 0).any()
    with torch.no_grad():
        whole, _ = model(ids, None, 1)
        state = None
        for chunk in ids.split(7, 1):
            logits, state = model(chunk, state, 1)
    assert whole.shape == (5, 1, 404)
    torch.testing.assert_close(logits, whole, rtol=1e-4, atol=1e-4)
    assert all(len(tensor) == 5 for tensor in tensors(state))
    alone, _ = model(ids[2:3, int((ids[2] != 0).byte().argmax()) :], None, 1)  # alone and without padding
    torch.testing.assert_close(alone, whole[2:3], rtol=1e-4, atol=1e-4)


def test_a_causal_model_computes_what_transformers_computes(bases: dict[str, str]) -> None:
    model = adapt(bases["causal"], 400).eval()
    plain = LlamaForCausalLM.from_pretrained(bases["causal"]).eval()
    ids = torch.randint(3, 400, (2, 30), generator=torch.Generator().manual_seed(0))
    begun = torch.cat([torch.full((2, 1), 2), ids], 1)  # as its tokenizer begins a text
    with torch.no_grad():
        torch.testing.assert_close(model(ids, None, 30)[0], plain(begun).logits[:, 1:], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(model.release()(begun).logits, plain(begun).logits)


WITH_WEIGHTS: dict[str, dict[str, object]] = {
    "associative": {"rate": 2, "window": 16, "block": 8, "code": 4, "latent": 4, "keys": 4},
    "compressed": {"block": 8, "rate": 2, "slots": 16},
    "gist": {"rate": 2, "slots": 16, "window": 16, "block": 8, "code": 4, "hidden": 4},
}


def leaves(loss: Tensor) -> Iterator[Tensor]:
    """The tensors that a loss has gradients by."""
    nodes, seen = [loss.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        nodes += [following for following, _ in node.next_functions]


@pytest.mark.parametrize("mechanism", sorted(WITH_WEIGHTS))
@pytest.mark.parametrize("lora", [None, 2])
def test_all_that_has_a_gradient_is_trained_and_saved(
    bases: dict[str, str], mechanism: str, lora: int | None, tmp_path: Path
) -> None:
    """No weight of a working memory is left out: each has a name, is used, and comes back from the folder."""
    torch.manual_seed(0)
    model = adapt(bases["causal"], 400, lora, mechanism=mechanism, settings=WITH_WEIGHTS[mechanism])
    assert any(name.startswith("mechanisms.1.") for name in model.learned())  # each layer has weights of its own
    ids = torch.randint(3, 400, (2, 60), generator=torch.Generator().manual_seed(0))

    def loss_of(model: Pretrained) -> Tensor:
        logits, state = model(ids)
        return torch.stack([logits.square().mean(), *(term.mean() for term in losses(state))]).sum()

    loss, learned = loss_of(model), model.learned()
    ids_of_learned = {id(weight) for weight in learned.values()}
    assert {id(leaf) for leaf in leaves(loss)} == ids_of_learned
    with torch.no_grad():
        for weight in learned.values():
            weight += torch.randn_like(weight)
    model.save_pretrained(tmp_path)
    assert load_file(tmp_path / "model.safetensors").keys() == learned.keys()
    with torch.no_grad():
        torch.testing.assert_close(loss_of(open_model(tmp_path).train()), loss_of(model))
        assert not torch.isclose(loss_of(model), loss)


def test_a_memory_of_built_mechanisms_has_their_weights(bases: dict[str, str]) -> None:
    """Also on a model that is only attached: the same weights at every use, and shared where a mechanism is."""
    model = LlamaForCausalLM.from_pretrained(bases["causal"]).eval()
    ids = torch.randint(3, 400, (1, 40), generator=torch.Generator().manual_seed(0))
    mechanism = build_over_keys("gist", **WITH_WEIGHTS["gist"])
    with torch.no_grad(), attached(model, mechanism):
        before = model(ids).logits
        weights = list(mechanism.parameters())
        assert weights
        for weight in weights:
            weight.add_(0.3)
        changed = model(ids).logits
    assert not torch.allclose(before[:, -1], changed[:, -1])
    torch.testing.assert_close(before[:, :16], changed[:, :16])  # nothing has left the window


def test_the_working_memory_is_bounded(bases: dict[str, str]) -> None:
    model = adapt(
        bases["causal"], 400, mechanism="sink_window", settings={"sinks": 2, "window": 32, "block": 16}
    ).eval()
    ids = torch.randint(3, 400, (1, 200), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, state = model(ids, None, 0)
    assert max(tensor.shape[2] for tensor in tensors(state["layers"]) if tensor.dim() == 4) <= 34


def test_a_seq2seq_model_learns_nothing_before_its_target(bases: dict[str, str]) -> None:
    model = adapt(bases["seq2seq"], 400, lora=2)
    ids = torch.tensor([[5, 6, 7, *model.config.answer, 8, 9]])
    logits, _ = model(ids)
    begin = ids.shape[1] - 3  # at the last id of the answer marker
    assert not logits[:, :begin].any()
    assert logits[:, begin:].abs().amax(2).all()


def test_a_model_is_refused_by_what_cannot_ask_it(bases: dict[str, str]) -> None:
    for kind in ("encoder", "seq2seq"):
        config = TrainConfig.of(task="question_answering", model=bases[kind], task_settings={"limit": 12})
        with pytest.raises(UsageError, match="must be a causal language model"):
            compare_memory_with_window(config, [0])


def test_a_seq2seq_model_computes_what_transformers_computes(bases: dict[str, str]) -> None:
    """Rows of different lengths, source and target, against transformers with each row by itself."""
    model = adapt(bases["seq2seq"], 400).eval()
    plain = T5ForConditionalGeneration.from_pretrained(bases["seq2seq"]).eval()
    answer = list(model.config.answer)
    generator = torch.Generator().manual_seed(0)
    sources = [torch.randint(3, 200, (length,), generator=generator).tolist() for length in (9, 21)]
    targets = [torch.randint(3, 200, (length,), generator=generator).tolist() for length in (5, 2)]
    rows = [[*source, *answer, *target] for source, target in zip(sources, targets, strict=True)]
    longest = max(map(len, rows))
    ids = torch.tensor([[0] * (longest - len(row)) + row for row in rows])
    with torch.no_grad():
        logits, _ = model(ids, None, 6)
        for row, source, target in zip(logits, sources, targets, strict=True):
            begun = torch.tensor([[0, *target]])
            expected = plain(input_ids=torch.tensor([[*source, 1]]), decoder_input_ids=begun).logits[0]
            torch.testing.assert_close(row[-len(target) - 1 :], expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_reads_long_texts_by_windows(bases: dict[str, str]) -> None:
    torch.manual_seed(0)
    model = adapt(bases["encoder"], 400 + EXTRA).eval()
    room = model.config.window - 2
    ids = torch.randint(3, 400, (1, 2 * room), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        halves = [model(half, None, 1)[0] for half in ids.split(room, 1)]
        torch.testing.assert_close(model(ids, None, 1)[0], (halves[0] + halves[1]) / 2)


def test_measured_like_any_other(bases: dict[str, str], table: str) -> None:
    model, task = adapt(bases["causal"], 402), build_task(run(bases["causal"], table))
    score = measure(model, task, 3, batch_size=4)
    assert score.targets == 4
    assert score.state_bytes > 0


def test_what_cannot_be(bases: dict[str, str], table: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^There is no tokenizer '/nowhere/at/all'.*$"):
        build_task(run("/nowhere/at/all", table))
    with pytest.raises(UsageError, match="is an encoder, which predicts labels but generates no text"):
        adapt(bases["encoder"], 400)
    with pytest.raises(UsageError, match="takes no working memory"):
        adapt(bases["seq2seq"], 404, mechanism="sink_window")
    with pytest.raises(UsageError, match="at least the 400 ids"):
        adapt(bases["causal"], 20)
    with pytest.raises(UsageError, match="lora must be a rank of at least 1"):
        adapt(bases["causal"], 400, lora=-1)
    with pytest.raises(UsageError, match="at most the 256 positions"):
        adapt(bases["causal"], 400, mechanism="sink_window", settings={"window": 512})
    model = adapt(bases["causal"], 404)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "lora": 2}))
    write_checksums(tmp_path)
    with pytest.raises(UsageError, match="another configuration"):
        open_model(tmp_path)


@pytest.mark.parametrize("kind", ["causal", "encoder", "seq2seq"])
def test_a_base_in_half_precision_learns_in_full(bases: dict[str, str], table: str, kind: str) -> None:
    report = train(run(bases[kind], table, lora=2, precision="bf16", steps=2))
    assert {weight.dtype for weight in report.model.learned().values()} == {torch.float32}
    assert next(weight for weight in report.model.body.parameters() if not weight.requires_grad).dtype == torch.bfloat16
    changes = [weight for name, weight in report.model.learned().items() if "lora_B" in name]
    assert sum(bool(weight.any()) for weight in changes) > 0.8 * len(changes)  # some parts have no say: BERT's pooler
