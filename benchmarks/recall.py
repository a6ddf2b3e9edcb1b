"""Rank of the right paragraph: 300 shuffled paragraphs read as one document, and questions about them.

    python -m benchmarks.recall [--data squad cmrc natural] [--half test|choosing] [--questions 200] [--answers]

Data sets: SQuAD, CMRC2018 (Chinese), and `natural`, questions about SQuAD's paragraphs in other words than theirs, see
`benchmarks.natural`. Without `--questions`, 200 of each of the first two and all of the third.

All in one run: memspan with and without the likelihood of the question, each of its rankers alone, and the simple
alternatives: BM25 (SQLite FTS5 with stemming, also without the question words, as memspan's), MiniLM (all-MiniLM-L6-v2) and
MiniLM + BM25 (the sum of standard scores, without the question words). The alternatives rank the paragraphs themselves;
memspan and its rankers rank its own passages, cut without knowing the paragraphs: a paragraph has the rank of the first
passage that overlaps it by half of the shorter of the two. A ranker that abstains, as that by meaning does where its
encoder does not know the words, has not found the paragraph. R@k is the share of questions whose paragraph is among the
first k; brackets hold the 95 % interval of Wilson. Weights were chosen on `--half choosing`, the articles of the other half.

`--answers` also lets the model answer from what was recalled, and, as the oracle, from the right paragraph with the same
prompt. An answer is right if it contains one of the gold answers. Prompt and budget were chosen with `--half choosing`.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import natural, questions, report
from benchmarks.questions import Question, contained, seed_of
from benchmarks.report import interval

K = (1, 4, 8, 16)
DATA = ("squad", "cmrc", "natural")
ALTERNATIVES = ("BM25 alone", "BM25 alone, no question words", "MiniLM alone", "MiniLM + BM25")
EACH = 200  # questions, unless another number is given
FOUND = 64  # passages of a search

NOWHERE = 10**6


def load(data: str, half: str, count: int | None) -> tuple[list[str], list[Question]]:
    """The paragraphs of a data set, and the first `count` questions about them; None for the usual number."""
    if data == "natural":
        paragraphs, asked = natural.load(half == "test")
        return paragraphs, asked[:count]
    return questions.load(data, test=half == "test", questions=EACH if count is None else count)


def figures(name: str, ranking: Sequence[Mapping[int, int]], asked: Sequence[Question]) -> dict[str, Any]:
    """The shares R@k of a ranker with their intervals, and the mean reciprocal rank.

    Args:
        ranking: of each question, the rank of each paragraph that was found.
    """
    found = np.array([ranks.get(item.paragraph, NOWHERE) for ranks, item in zip(ranking, asked, strict=True)])
    shares = {f"R@{k}": float((found <= k).mean()) for k in K}
    intervals = {f"R@{k} interval": interval(int((found <= k).sum()), len(asked)) for k in K}
    return {"ranker": name, "n": len(asked)} | shares | {"MRR": float((1 / found).mean())} | intervals


def shown(row: Mapping[str, Any], k: int) -> str:
    low, high = row[f"R@{k} interval"]
    return f"{row[f'R@{k}']:.3f} [{low:.2f}, {high:.2f}]"


def ordered(scores: np.ndarray) -> list[int]:
    """The numbers of passages or paragraphs, best first."""
    return np.argsort(-scores, kind="stable").tolist()


def whole(scores: np.ndarray) -> list[dict[int, int]]:
    """Ranks of paragraphs that were scored themselves."""
    return [{paragraph: rank for rank, paragraph in enumerate(ordered(row), 1)} for row in scores]


def standard(scores: np.ndarray) -> np.ndarray:
    return (scores - scores.mean(1, keepdims=True)) / np.maximum(scores.std(1, keepdims=True), 1e-9)


def bm25(paragraphs: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    from memspan.memory.index.bm25 import WordIndex

    index = WordIndex()
    index.extend(paragraphs)
    return np.stack([index.scores(text) for text in texts])


def minilm(paragraphs: Sequence[str], texts: Sequence[str]) -> np.ndarray:
    """Cosines by all-MiniLM-L6-v2 as its authors use it: by transformers alone, mean pooling, at most 256 tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    from memspan.pretrained import encoders

    encoders.load("minilm")  # fetches it
    path = encoders.folder_of("minilm")
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    @torch.inference_mode()
    def embed(batch_of: Sequence[str]) -> torch.Tensor:
        rows = []
        for first in range(0, len(batch_of), 16):
            batch = tokenizer(
                list(batch_of[first : first + 16]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            hidden, weight = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
            rows.append(torch.nn.functional.normalize((hidden * weight).sum(1) / weight.sum(1), dim=-1))
        return torch.cat(rows)

    return (embed(texts) @ embed(paragraphs).T).numpy()


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
    lm, paragraphs: Sequence[str], asked: Sequence[Question], searched: Sequence[Sequence], name: str, seed: int
) -> None:
    """Answers from memory beside answers of the oracle; greedy, at most 32 tokens, several at once to save time."""
    import torch

    from memspan.assistant.prompt_choice import in_reading_order, within_budget
    from memspan.assistant.prompts import Quotable, Quotation, question_message

    def generate(texts: Sequence[Sequence[Quotable]]) -> list[str]:
        prompts = [
            lm.prompt_ids(question_message(item.question, text)) for item, text in zip(asked, texts, strict=True)
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
        "oracle": [[Quotation(searched[0][0].source, paragraphs[item.paragraph])] for item in asked],
    }
    shares = {
        name: float(
            np.mean([contained(reply, item.answers) for reply, item in zip(generate(given), asked, strict=True)])
        )
        for name, given in texts.items()
    }
    figures = {
        **shares,
        "ratio": shares["memory"] / shares["oracle"],
        "questions": len(asked),
        "budget": usable.tokens,
    }
    report.table([figures])
    report.save(name, figures, seeds=[seed])

    def draw(axes):
        axes.bar(["handed the right paragraph", "from 300 paragraphs in memory"], [shares["oracle"], shares["memory"]])
        axes.set(ylabel="answer contained", title=f"{len(asked)} questions, ratio {figures['ratio']:.2f}")

    report.plot(name, draw)


def ranked(lm, data: str, paragraphs: Sequence[str], asked: Sequence[Question]) -> tuple[dict[str, Any], list]:
    """The figures of all rankers, and what was found for each question."""
    from memspan.memory.index.bm25 import without_question_words

    texts = [item.question for item in asked]
    lengths = np.array([len(text) for text in paragraphs])
    memory = lm.read("\n\n".join(paragraphs), source=data)
    held = paragraphs_of(memory, np.cumsum([0, *(lengths[:-1] + 2)]), lengths)
    print(f"{data}: {memory.tokens} tokens, {len(memory)} passages, {len(asked)} questions", flush=True)

    def of_passages(found: Sequence[Sequence]) -> list[dict[int, int]]:
        return [first_ranks([passage.number for passage in row], held) for row in found]

    searched = [lm.search(memory, text, top=FOUND) for text in texts]
    rankings = {
        "memspan": of_passages(searched),
        "memspan, not reranked": of_passages([lm.search(memory, text, top=FOUND, rerank=0) for text in texts]),
    }
    for name, ranker in lm.retriever.rankers.items():
        scores = [ranker.scores(memory.view(), text) for text in texts]
        rankings[f"memspan's {name} alone"] = [{} if row is None else first_ranks(ordered(row), held) for row in scores]
        if abstentions := sum(row is None for row in scores):
            print(f"{name} abstains for {abstentions} of {len(asked)} questions")
    telling, meaning = bm25(paragraphs, [without_question_words(text) for text in texts]), minilm(paragraphs, texts)
    alternatives = (bm25(paragraphs, texts), telling, meaning, standard(telling) + standard(meaning))
    rankings |= {name: whole(scores) for name, scores in zip(ALTERNATIVES, alternatives, strict=True)}
    rows = [figures(name, ranking, asked) for name, ranking in rankings.items()]
    counts = {"tokens": memory.tokens, "passages": len(memory), "questions": len(asked)}
    return counts | {"rankers": rows}, searched


def compare(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the figures of several data sets side by side, and memspan's against the best alternative."""
    columns = [(data, k) for data in results for k in (1, 8)]
    names = [row["ranker"] for row in next(iter(results.values()))["rankers"]]
    rows = {data: {row["ranker"]: row for row in result["rankers"]} for data, result in results.items()}
    report.table(
        [{"ranker": name} | {f"{data} R@{k}": shown(rows[data][name], k) for data, k in columns} for name in names]
    )
    for data, k in columns:
        best = max(ALTERNATIVES, key=lambda name: rows[data][name][f"R@{k}"])
        print(
            f"{data}, R@{k}, n = {results[data]['questions']}: memspan {rows[data]['memspan'][f'R@{k}']:.3f}, "
            f"the best alternative ({best}) {rows[data][best][f'R@{k}']:.3f}"
        )


def draw(axes, data: str, result: Mapping[str, Any]) -> None:
    for row in result["rankers"]:
        width = 2.5 if row["ranker"] == "memspan" else 1.2
        axes.plot(K, [row[f"R@{k}"] for k in K], marker="o", label=row["ranker"], lw=width)
    axes.set(xscale="log", xticks=K, xticklabels=K, xlabel="passages looked at", ylabel="right one among them")
    axes.set_title(f"{data}: 300 paragraphs, {result['questions']} questions")
    axes.legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["squad"], choices=DATA)
    parser.add_argument("--questions", type=int)
    parser.add_argument("--answers", action="store_true")
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    options = parser.parse_args()

    import memspan

    lm = memspan.load_model("smollm2")
    seed, results = seed_of(options.half == "test"), {}
    for data in options.data:
        paragraphs, asked = load(data, options.half, options.questions)
        results[data], searched = ranked(lm, data, paragraphs, asked)
        unusual = ["choosing"] * (options.half != "test")
        if options.questions is not None and (data == "natural" or options.questions != EACH):
            unusual.append(str(options.questions))
        name = "-".join(["recall", data, *unusual])
        report.save(name, results[data], seeds=[seed])
        report.plot(name, lambda axes, data=data: draw(axes, data, results[data]))
        if options.answers:
            other = [data] * (data != "squad")
            answers(lm, paragraphs, asked, searched, "-".join(["answers", *other, *unusual]), seed)
    compare(results)


if __name__ == "__main__":
    main()
