"""Training of a ranker of replies: frozen features of turns, and a network over them that is learned by contrast.

Letters: B conversations, D width.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.optim import AdamW
from transformers import get_cosine_schedule_with_warmup

from memspan.plugins import require_installed
from memspan.pretrained.reply_ranker import EVIDENCE, ReplyRanker, Turns
from memspan.state import detach, nbytes
from memspan.tasks import Task, require
from memspan.tasks.text.dialogue import Dialogue, Question, ranking_intervals, ranking_metrics
from memspan.training.build import build_model, build_task
from memspan.training.config import TrainConfig
from memspan.training.loop import checkpoint_of
from memspan.training.report import HeldOut, Report, report_fitted, save_fitted

VALIDATION = 10  # one in so many training dialogues is kept to weigh the evidence on
MOST_QUESTIONS = 2000  # of them
SCHEDULE_STEPS = 10_000  # resolution of the learning rate's schedule over the whole run
MOST_WRONG, SHOWN = 10, 200  # replies that a report shows, and characters of each

Progress = Callable[[str, int, int], None]  # what is computed, how much of it is done, and all of it
Conversation = tuple[Tensor, Tensor]  # the features of its turns, (L, F), and the numbers of their texts, (L,)


def fit_replies(
    config: TrainConfig, on_progress: Progress | None = None, task: Task | None = None, resume: bool = False
) -> Report:
    """Trains a ranker of replies on the features that `config` names, and measures it on all replies held out.

    The network learns by the contrastive loss InfoNCE (van den Oord et al. 2018): of all replies in a batch of dialogues, to
    find the one that followed, where replies in the same dialogue are no negatives. The evidence is then weighed on dialogues
    that the network has not seen, for the largest likelihood of their replies. Features are stored as in `fitting.fit`.

    The parameters are those of `fitting.fit`.

    Raises UsageError for a task that is no dialogue, and for an output folder that holds a run.
    """
    require_installed("A ranker of replies needs", "sklearn", "scipy")
    checkpoint_of(config, resume)
    began = time.process_time()
    dialogue = require(build_task(config) if task is None else task, Dialogue, "Only a dialogue has replies to rank.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.run.seed)
        model = build_model(config, dialogue)
        assert isinstance(model, ReplyRanker)
        learned, validation = _parts([record["turns"] for record in dialogue.records])
        turns = model.fit_features([turn for record in dialogue.records for turn in record["turns"]], on_progress)
        steps, history = _learn(model, turns, learned, config, on_progress)
    model.eval()
    questions = dialogue.with_records(held_out=[{"turns": turns} for turns in validation]).all_questions()
    model.weights = _weighed(_evidence(model, turns, questions[:MOST_QUESTIONS]))
    model.learn_replies(turns, [turn for record in dialogue.records for turn in record["turns"][1::2]])
    seconds = time.process_time() - began
    report = _report(config, dialogue, model, steps, seconds, history, on_progress)
    save_fitted(report, dialogue)
    return report


def _parts(dialogues: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Those to learn from, and those to weigh the evidence on: at least two, also where there are few."""
    shuffled = random.Random(0).sample(dialogues, len(dialogues))
    count = max(2, len(shuffled) // VALIDATION)
    return shuffled[count:] or shuffled, shuffled[:count]


# ---- the network


def _learn(
    model: ReplyRanker, turns: Turns, dialogues: list[list[str]], config: TrainConfig, report: Progress | None
) -> tuple[int, list[dict[str, float]]]:
    """The number of steps, and the means of loss and accuracy in each twentieth of the run."""
    network, options = model.network, config.optimisation
    assert network is not None
    network.train()
    rows = [torch.tensor(turns.rows(dialogue)) for dialogue in dialogues]
    optimizer = AdamW(network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)
    schedule = get_cosine_schedule_with_warmup(optimizer, round(SCHEDULE_STEPS * options.warmup), SCHEDULE_STEPS)
    rate: Any = schedule.lr_lambdas[0]
    draw, began = random.Random(config.run.seed), time.process_time()
    waiting: list[Tensor] = []
    step, losses, shares, history, shown = 0, list[float](), list[float](), list[dict[str, float]](), 0
    while (done := _share(step, time.process_time() - began, options.steps, options.seconds)) < 1:
        if not waiting:
            waiting = draw.sample(rows, len(rows))
        batch, waiting = waiting[: options.batch_size], waiting[options.batch_size :]
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * rate(done * SCHEDULE_STEPS)
        loss, right = _contrast(model, turns, batch)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if options.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(network.parameters(), options.max_grad_norm)
        optimizer.step()
        step += 1
        losses.append(float(loss.detach()))
        shares.append(float(right))
        if report is not None and int(done * 100) > shown:
            shown = int(done * 100)
            report("network", shown, 100)
        if int(done * 20) >= len(history):
            means = {"loss": sum(losses) / len(losses), "accuracy": sum(shares) / len(shares)}
            history.append({"step": step, **means})
            losses, shares = [], []
    if report is not None:
        report("network", 100, 100)
    return step, history


def _share(step: int, seconds: float, steps: int | None, most_seconds: float | None) -> float:
    """The share of the run that is done, by steps or by CPU time."""
    done = 0.0 if steps is None else step / steps
    return done if most_seconds is None else max(done, seconds / most_seconds)


def _contrast(model: ReplyRanker, turns: Turns, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The mean loss of finding each reply in dialogues, given as the rows of their turns, among all those in the others, and
    the share that is found first."""
    network = model.network
    assert network is not None
    device = model.position.device
    padded = pad_sequence(list(batch), batch_first=True, padding_value=-1)
    features = (turns.features[padded.clamp(min=0)] * (padded >= 0)[..., None]).to(device)
    vectors = network.conversations(features)
    replies = padded[:, 1::2]
    contexts = vectors[:, : 2 * replies.shape[1] : 2]
    some = replies >= 0
    of = torch.arange(len(batch))[:, None].expand_as(some)[some]
    texts = replies[some]
    logits = contexts[some.to(device)] @ network.replies(turns.features[texts].to(device)).T * network.log_scale.exp()
    no_negative = (texts[:, None] == texts) | (of[:, None] == of)
    logits = logits.masked_fill(no_negative.fill_diagonal_(False).to(device), -torch.inf)
    own = torch.arange(len(texts), device=device)
    return cross_entropy(logits, own), (logits.argmax(1) == own).float().mean()


# ---- the weights of the evidence


def _evidence(model: ReplyRanker, turns: Turns, questions: Sequence[Question]) -> Tensor:
    """The evidence of the candidates of each question, (N, C, 3); -inf beside fewer candidates than others have."""
    found = model.evidence(
        turns, [question.context for question in questions], [question.candidates for question in questions]
    )
    return pad_sequence(list(found), batch_first=True, padding_value=-torch.inf)


def _weighed(evidence: Tensor) -> Tensor:
    """The weights of the evidence (N, C, 3) with which the first candidates are likeliest, none below 0, (3,)."""
    absent = evidence[..., 0].isinf()
    known = evidence.masked_fill(absent[..., None], 0.0)
    logs = torch.zeros(evidence.shape[2], requires_grad=True)  # a weight is their exponential
    optimizer = torch.optim.LBFGS([logs], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = (known @ logs.exp()).masked_fill(absent, -torch.inf)
        value = cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64)) + 1e-4 * logs.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return logs.detach().exp()


# ---- the report


def _report(
    config: TrainConfig,
    task: Dialogue,
    model: ReplyRanker,
    steps: int,
    seconds: float,
    history: list[dict[str, float]],
    on_progress: Progress | None,
) -> Report:
    questions = task.all_questions()
    texts = [text for question in questions for text in (*question.context, *question.candidates)]
    evidence = _evidence(model, model.turns(texts, on_progress), questions)
    scores = (evidence.masked_fill(evidence.isinf(), 0.0) @ model.weights).masked_fill(
        evidence[..., 0].isinf(), -torch.inf
    )
    ranks = _ranks(scores)
    loss = float(cross_entropy(scores, torch.zeros(len(scores), dtype=torch.int64)))
    metrics = ranking_metrics(ranks)
    ways = {"network alone": _ranks(evidence[..., 0])}
    others = {**task.baseline_ranks(questions), **ways}
    held_out = HeldOut(metrics, metrics["R@1"], loss, len(questions), _state_bytes(model))
    details = {
        "dialogues": {"trained on": len(task.records), "held out": len(task.held_out_records)},
        "questions": len(questions),
        "candidates": max(len(question.candidates) for question in questions),
        "metric": task.metric,
        "intervals": ranking_intervals(questions, ranks),
        "baselines": {
            name: {"metrics": ranking_metrics(found), "intervals": ranking_intervals(questions, found)}
            for name, found in others.items()
        },
        "features": list(config.model.features),
        "settings": {"weights": dict(zip(EVIDENCE, model.weights.tolist(), strict=True))},
        "wrong": _wrong(questions, scores, ranks),
    }
    return report_fitted(config, model, held_out, seconds, details, steps, history)


def _ranks(scores: Tensor) -> list[int]:
    """The ranks of the first candidates, 1 for the best; a tie counts against them."""
    ranks: list[int] = (1 + (scores[:, 1:] >= scores[:, :1]).sum(1)).tolist()
    return ranks


def _state_bytes(model: ReplyRanker) -> int:
    """Bytes of what the network remembers of a conversation."""
    assert model.network is not None
    with torch.no_grad():
        return nbytes(detach(model.network.state_after(torch.zeros(1, 2, model.config.inputs))))


def _wrong(questions: Sequence[Question], scores: Tensor, ranks: Sequence[int]) -> list[dict[str, Any]]:
    """The questions whose right reply is ranked lowest."""
    worst = sorted(range(len(ranks)), key=lambda number: -ranks[number])[:MOST_WRONG]
    return [
        {
            "turn": questions[number].context[-1][:SHOWN],
            "reply": questions[number].candidates[0][:SHOWN],
            "prediction": questions[number].candidates[int(scores[number].argmax())][:SHOWN],
            "rank": ranks[number],
        }
        for number in worst
        if ranks[number] > 1
    ]
