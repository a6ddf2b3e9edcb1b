"""What `ask` gives a reader: is the right answer in the model's words, in a quoted sentence, or in either?

    python -m benchmarks.quoting [--data squad natural] [--half test|choosing] [--questions 200]

300 shuffled paragraphs of SQuAD are read as one document, and the questions are put to `LanguageModel.ask` as it is, one at a
time, with answers of at most 40 tokens. Right means that one of the gold answers is contained. A quote is the right
sentence if it lies in the paragraph that the question is about and holds a gold answer. `natural` are questions about the
same paragraphs in other words, see `benchmarks.natural`. Brackets hold the 95 % interval of Wilson.
"""

import argparse
from typing import Any

from benchmarks import natural, questions, report
from benchmarks.questions import contained, seed_of
from benchmarks.report import interval

MOST_TOKENS = 40


def measure(lm: Any, data: str, half: str, count: int) -> dict[str, Any]:
    from memspan import Sampling

    is_test = half == "test"
    paragraphs, asked = (
        natural.load(is_test) if data == "natural" else questions.load(data, test=is_test, questions=count)
    )
    asked = asked[:count]
    starts = [0]
    for paragraph in paragraphs:
        starts.append(starts[-1] + len(paragraph) + 2)
    memory = lm.read("\n\n".join(paragraphs), source=data)
    counts = dict.fromkeys(
        ("answer", "first quote", "quote", "answer or quote", "right sentence", "paragraph first"), 0
    )
    for item in asked:
        answer = lm.ask(memory, item.question, sampling=Sampling(max_new_tokens=MOST_TOKENS))
        start, end = starts[item.paragraph], starts[item.paragraph + 1]
        in_answer = contained(answer.text, item.answers)
        right = [quote for quote in answer.quotes if contained(quote.text, item.answers)]
        best = answer.passages[0]
        counts["answer"] += in_answer
        counts["first quote"] += answer.quote in right
        counts["quote"] += bool(right)
        counts["answer or quote"] += in_answer or bool(right)
        counts["right sentence"] += any(start <= quote.start < end for quote in right)
        counts["paragraph first"] += best.start < end and best.end > start
    shares = {name: number / len(asked) for name, number in counts.items()}
    return {"data": data, "questions": len(asked), **shares} | {
        f"{name} interval": interval(number, len(asked)) for name, number in counts.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=["squad", "natural"], choices=["squad", "natural"])
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    parser.add_argument("--questions", type=int, default=200)
    options = parser.parse_args()

    import memspan

    lm = memspan.load_model("smollm2")
    unusual = ["choosing"] * (options.half != "test")
    for data in options.data:
        row = measure(lm, data, options.half, options.questions)
        report.table([{key: value for key, value in row.items() if "interval" not in key}])
        report.save("-".join(["quoting", data, *unusual]), row, seeds=[seed_of(options.half == "test")])


if __name__ == "__main__":
    main()
