"""Questions that need two or more passages: whether all of them reach the prompt, and answers from it.

    python -m benchmarks.multihop [--data hotpot|musique] [--half choosing|test] [--questions 50] [--answers]

The paragraphs of all questions of a half of HotpotQA or MuSiQue, each once, are shuffled and read as one document of about
50,000 tokens; a paragraph is in the prompt if a passage of the prompt overlaps it by half of the shorter of the two. Shares
are of questions all of whose supporting paragraphs are there: within the model's own budget, within that of a large model
with a window of 8,192 and of 32,768 tokens, and within a number of tokens of retrieved text. "one round" is the same
without the second round of the search.

`--answers` also lets the model answer from the recalled prompt, and, as the oracle, from the supporting paragraphs alone
with the same prompt; greedy, at most 32 tokens. An answer is right if it contains one of the gold answers. Both are quoted
alike, as `ask` does: the memory from what was found, the oracle from the passages that hold the supporting paragraphs.
"best passage" is the answer from that alone: what a second passage adds to. Brackets hold the 95 % interval of Wilson.
"""

import argparse
import json
import random
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from benchmarks import report
from benchmarks.questions import contained
from benchmarks.recall import paragraphs_of
from benchmarks.report import DATA, interval, needs

FILES = {"hotpot": "hotpotqa_train.json", "musique": "musique_train.json"}
HALVES = {"choosing": 0, "test": 1}
EACH = 50  # questions of a half
TOKENS = (640, 1280, 2048, 4096)
FOUND = 64  # passages of a search


@dataclass(frozen=True)
class Question:
    question: str
    paragraphs: frozenset[int]
    """All that the answer needs."""
    answers: tuple[str, ...]


def load(data: str, half: str, questions: int = EACH) -> tuple[list[str], list[Question]]:
    """The paragraphs of the questions, each once and shuffled, and the questions."""
    path = needs(DATA / "multihop_small" / FILES[data])
    first = EACH * HALVES[half]
    rows = json.loads(path.read_text("utf-8"))[first : first + min(questions, EACH)]
    read = [_hotpot(row) if data == "hotpot" else _musique(row) for row in rows]
    texts = list(dict.fromkeys(text for paragraphs, _, _ in read for text in paragraphs))
    random.Random(HALVES[half]).shuffle(texts)
    numbers = {text: number for number, text in enumerate(texts)}
    return texts, [
        Question(row["question"].strip(), frozenset(numbers[text] for text in needed), answers)
        for row, (_, needed, answers) in zip(rows, read, strict=True)
    ]


def _hotpot(row: dict) -> tuple[list[str], list[str], tuple[str, ...]]:
    """The paragraphs, those that the answer needs, and the answers of a row."""
    needed = {title for title, _ in row["supporting_facts"]}
    texts = {title: f"{title}: {''.join(sentences)}".strip() for title, sentences in row["context"]}
    return list(texts.values()), [text for title, text in texts.items() if title in needed], (row["answer"],)


def _musique(row: dict) -> tuple[list[str], list[str], tuple[str, ...]]:
    texts = [
        (f"{item['title']}: {item['paragraph_text']}".strip(), item["is_supporting"]) for item in row["paragraphs"]
    ]
    return (
        [text for text, _ in texts],
        [text for text, needed in texts if needed],
        (row["answer"], *row["answer_aliases"]),
    )


def shown(right: Sequence[bool]) -> str:
    low, high = interval(sum(right), len(right))
    return f"{np.mean(right):.2f} [{low:.2f}, {high:.2f}]"


def figure(right: Sequence[bool]) -> dict[str, float]:
    low, high = interval(sum(right), len(right))
    return {"share": float(np.mean(right)), "low": low, "high": high, "n": len(right)}


@contextmanager
def one_round():
    """Searches have no second round."""
    from memspan.assistant import second_round

    least, second_round.LEAST_COVERAGE = second_round.LEAST_COVERAGE, 2.0
    try:
        yield
    finally:
        second_round.LEAST_COVERAGE = least


def budgets(lm) -> dict:
    """By name."""
    from memspan.assistant.prompt_budget import PASSAGE_TOKENS, PromptBudget, default_budget

    return {
        "the model's own": lm.prompt_budget,
        "window 8,192": default_budget(8192),
        "window 32,768": default_budget(32768),
        **{f"{tokens:,}": PromptBudget(tokens, tokens // PASSAGE_TOKENS * 2) for tokens in TOKENS},
    }


def right_answers(lm, questions: Sequence[Question], texts: Sequence[Sequence], evidences: Sequence) -> dict:
    """Whether the model's answer to each question from its texts is right, and whether the quotes beside it hold one.

    Args:
        evidences: what is quoted from.
    """
    from memspan.assistant.prompts import question_message
    from memspan.models.generate import Sampling

    sampling = Sampling(max_new_tokens=32)
    right: dict[str, list[bool]] = {"answer": [], "first quote": [], "quotes": [], "answer or quotes": []}
    for item, quoted, evidence in zip(questions, texts, evidences, strict=True):
        messages = [{"role": "user", "content": question_message(item.question, quoted)}]
        answer = "".join(lm.answerer.answer(messages, sampling))
        in_answer = contained(answer, item.answers)
        in_quotes = [contained(quote.text, item.answers) for quote in evidence.quotes(answer)]
        right["answer"].append(in_answer)
        right["first quote"].append(any(in_quotes[:1]))
        right["quotes"].append(any(in_quotes))
        right["answer or quotes"].append(in_answer or any(in_quotes))
    return right


def answer_figures(lm, view, paragraphs: Sequence[str], questions: Sequence[Question], searched, held) -> dict:
    """Prints and returns the shares of right answers and quotes, from the memory, its best passage, and the oracle.

    Args:
        searched: the passages found for each question, best first.
        held: of each passage of the memory the paragraphs that it holds.
    """
    from memspan.assistant.complement import with_complement
    from memspan.assistant.prompt_choice import in_reading_order, within_budget
    from memspan.assistant.prompts import Quotation
    from memspan.assistant.quotes import Evidence

    usable, encoder = lm.prompt_budget, lm.retriever.vectors.encoder
    memory = [within_budget(found, usable.tokens, usable.passages, usable.max_score_gap) for found in searched]

    def needed_alone(item: Question, found: Sequence) -> list:
        def is_needed(passage) -> bool:
            return bool(item.paragraphs & set(held[passage.number]))

        return with_complement(view, item.question, list(filter(is_needed, found)), encoder, among=is_needed)

    needed = [needed_alone(item, found) for item, found in zip(questions, searched, strict=True)]
    prompts = {
        "memory": ([in_reading_order(passages) for passages in memory], searched),
        "best passage": ([in_reading_order(found[:1]) for found in searched], searched),
        "oracle": (
            [[Quotation("oracle", paragraphs[number]) for number in sorted(item.paragraphs)] for item in questions],
            needed,
        ),
    }
    rows, figures = [], {}
    for name, (texts, quotable) in prompts.items():
        evidences = [
            Evidence(view, item.question, passages, lm.retriever)
            for item, passages in zip(questions, quotable, strict=True)
        ]
        right = right_answers(lm, questions, texts, evidences)
        rows.append({"from": name} | {what: shown(shares) for what, shares in right.items()})
        figures[name] = {what: figure(shares) for what, shares in right.items()}
    report.table(rows)
    ratios = {
        what: figures["memory"][what]["share"] / max(1e-9, figures["oracle"][what]["share"])
        for what in figures["memory"]
    }
    report.table([{"memory over oracle": ""} | ratios])
    texts_each = float(np.mean([len(passages) for passages in memory]))
    return figures | {"ratio": ratios, "passages of a prompt": texts_each}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="hotpot", choices=sorted(FILES))
    parser.add_argument("--half", default="test", choices=sorted(HALVES))
    parser.add_argument("--questions", type=int, default=EACH)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--answers", action="store_true")
    options = parser.parse_args()

    import memspan
    from memspan.assistant.complement import with_complement
    from memspan.assistant.prompt_choice import within_budget

    paragraphs, questions = load(options.data, options.half, options.questions)
    lm = memspan.load_model(options.model)
    memory = lm.read("\n\n".join(paragraphs), source=options.data)
    lengths = np.array([len(text) for text in paragraphs])
    held = paragraphs_of(memory, np.cumsum([0, *(lengths[:-1] + 2)]), lengths)
    print(f"{memory.tokens} tokens, {len(memory)} passages, {len(questions)} questions")
    view, encoder = memory.view(), lm.retriever.vectors.encoder

    def chosen(found, budget):
        return within_budget(found, budget.tokens, budget.passages, budget.max_score_gap)

    rows, figures = [], {}
    searches = {}
    for name, rounds in (("two rounds", nullcontext), ("one round", one_round)):
        with rounds():
            searches[name] = [
                with_complement(view, item.question, lm.search(memory, item.question, top=FOUND), encoder)
                for item in questions
            ]
        shares = {
            budget_name: [
                item.paragraphs <= {number for passage in chosen(found, budget) for number in held[passage.number]}
                for item, found in zip(questions, searches[name], strict=True)
            ]
            for budget_name, budget in budgets(lm).items()
        }
        rows.append({"all in the prompt": name} | {budget: shown(right) for budget, right in shares.items()})
        figures[name] = {budget: figure(right) for budget, right in shares.items()}
    report.table(rows)
    if options.answers:
        figures["answers"] = answer_figures(lm, view, paragraphs, questions, searches["two rounds"], held)
    unusual = ["choosing"] * (options.half != "test")
    unusual += [str(options.questions)] * (options.questions != EACH) + [options.model] * (options.model != "smollm2")
    report.save(
        "-".join(["multihop", options.data, *unusual]),
        {"tokens": memory.tokens, "passages": len(memory), "questions": len(questions), **figures},
        seeds=[HALVES[options.half]],
    )


if __name__ == "__main__":
    main()
