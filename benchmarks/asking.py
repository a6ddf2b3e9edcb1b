"""Where the time of an answer goes: the share of recall and re-ranking beside that of writing, at 120,000 tokens.

    python -m benchmarks.asking [--tokens 120000] [--repeats 3] [--model smollm2]

The model is warm and the memory has been searched before. The eight questions of `benchmarks.needles`, and SQuAD's first
eight where the data is at hand (most of these have nothing to do with the novel: nothing stands out, and re-ranking has the
most to do). Each figure is CPU seconds of the process, all threads, the median over the repeats, summed over the questions.
`search` is a search without re-ranking, `re-ranking` what it adds, `answer` what `ask` adds to a search with re-ranking: the
prompt, the answer and its quote.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

from benchmarks import report
from benchmarks.needles import FACTS, hidden
from benchmarks.report import DATA, needs


def cpu_seconds(call: Callable[[], object]) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


def measure(lm, memory, questions: Sequence[str], repeats: int) -> dict[str, float]:
    from memspan.models.generate import Sampling

    sampling = Sampling(max_new_tokens=40)
    rows: list[tuple[float, float, float, int]] = []
    for question in questions:
        lm.ask(memory, question, sampling=sampling)
        plain, reranked, whole = [], [], []
        for _ in range(repeats):  # in turns: a busy moment meets all three
            plain.append(cpu_seconds(lambda text=question: lm.search(memory, text, rerank=0)))
            reranked.append(cpu_seconds(lambda text=question: lm.search(memory, text)))
            whole.append(cpu_seconds(lambda text=question: lm.ask(memory, text, sampling=sampling)))
        tokens = lm.ask(memory, question, sampling=sampling).answer_tokens
        rows.append((statistics.median(plain), statistics.median(reranked), statistics.median(whole), tokens))
    search = sum(row[0] for row in rows)
    reranking = sum(row[1] - row[0] for row in rows)
    answer = sum(row[2] - row[1] for row in rows)
    return {
        "questions": len(rows),
        "search CPU s": search,
        "re-ranking CPU s": reranking,
        "answer CPU s": answer,
        "answer tokens": sum(row[3] for row in rows),
        "search and re-ranking over answer": (search + reranking) / answer,
        "questions with more before the answer than in it": sum(row[1] > row[2] - row[1] for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=120_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    options = parser.parse_args()

    import memspan
    from benchmarks.questions import load

    novel = needs(DATA / "gutenberg_en" / "pg1342.txt").read_text("utf-8")
    lm = memspan.load_model(options.model)
    text, _ = hidden(novel, lm, options.tokens)
    memory = lm.read(text, source="novel")
    groups = {"facts in the novel": [question for _, question, _ in FACTS]}
    _, questions = load("squad", test=False, questions=8)
    groups["SQuAD's questions"] = [item.question for item in questions]
    rows = []
    for name, texts in groups.items():
        rows.append({"asked": name} | measure(lm, memory, texts, options.repeats))
        print(rows[-1], flush=True)
    report.table(rows)
    report.save(
        "asking", {"model": options.model, "tokens": memory.tokens, "passages": len(memory), "rows": rows}, seeds=[]
    )


if __name__ == "__main__":
    main()
