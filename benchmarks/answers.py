"""Answers from a memory against answers of the same model, same prompt, handed the right paragraph (the oracle).

    python -m benchmarks.answers [--questions 200]

An answer is right if it contains one of the gold answers. Prompt, budget and weights were chosen with `--half choosing`.
"""

import argparse

import numpy as np

from benchmarks import report
from benchmarks.questions import contained, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--half", default="test", choices=["test", "choosing"])
    parser.add_argument("--budget", type=int, default=None)
    options = parser.parse_args()

    import memspan
    from memspan.generate import Sampling
    from memspan.language_model import BUDGET, question_message

    budget = BUDGET if options.budget is None else options.budget
    paragraphs, asked = load("squad", test=options.half == "test", questions=options.questions)
    lm = memspan.load_model("smollm2")
    memory = lm.read("\n\n".join(paragraphs), source="squad")
    sampling = Sampling(max_new_tokens=40)
    right = {"memory": [], "oracle": []}
    for count, one in enumerate(asked, 1):
        answer = lm.ask(memory, one.question, budget=budget, sampling=sampling)
        ids = lm.prompt_ids(question_message(one.question, [paragraphs[one.paragraph]]))
        oracle = lm.tokenizer.decode(list(lm.decoder.generate(ids, sampling)), skip_special_tokens=True)
        right["memory"].append(contained(answer.text, one.answers))
        right["oracle"].append(contained(oracle, one.answers))
        if count % 20 == 0:
            print(f"{count}: memory {np.mean(right['memory']):.3f}, oracle {np.mean(right['oracle']):.3f}", flush=True)
    shares = {name: float(np.mean(values)) for name, values in right.items()}
    figures = {**shares, "ratio": shares["memory"] / shares["oracle"], "questions": len(asked), "budget": budget}
    report.table([figures])
    name = "answers" if options.half == "test" else f"answers-choosing-{budget}"
    report.save(name, figures)
    report.plot(
        name,
        lambda axes: (
            axes.bar(["handed the right paragraph", "from 300 paragraphs in memory"], [shares["oracle"], shares["memory"]]),
            axes.set_ylabel("answer contained"),
            axes.set_title(f"{len(asked)} SQuAD questions, ratio {figures['ratio']:.2f}"),
        ),
    )


if __name__ == "__main__":
    main()
