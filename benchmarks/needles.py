"""Eight distinct facts hidden in novels of 8k, 32k and 128k tokens: is each found first, and is it answered?

    python -m benchmarks.needles [--lengths 8000 32000 128000]

The oracle is the same model with the same prompt, handed only the passage that holds the fact.
"""

import argparse

from benchmarks import report
from benchmarks.questions import contained
from benchmarks.report import DATA, needs

FACTS = [
    (
        "The combination of the safe in the harbour office is 7-31-44.",
        "What is the combination of the safe in the harbour office?",
        "7-31-44",
    ),
    (
        "Professor Ilse Brandt keeps her violin in a locker at the railway station.",
        "Where does Professor Ilse Brandt keep her violin?",
        "railway station",
    ),
    ("The best coffee in Tallinn is sold by a man called Joosep.", "Who sells the best coffee in Tallinn?", "Joosep"),
    ("The meteorite of 1911 weighed exactly 62 kilograms.", "How much did the meteorite of 1911 weigh?", "62"),
    (
        "Captain Moreau's parrot answers only to the name Zephyr.",
        "What is the name of Captain Moreau's parrot?",
        "Zephyr",
    ),
    (
        "The committee agreed to paint the lighthouse green.",
        "Which colour did the committee agree to paint the lighthouse?",
        "green",
    ),
    (
        "Anselm's grandmother was born in the village of Okehampton.",
        "In which village was Anselm's grandmother born?",
        "Okehampton",
    ),
    (
        "The secret ingredient of the bakery's rye bread is fennel.",
        "What is the secret ingredient of the bakery's rye bread?",
        "fennel",
    ),
]


def hidden(text: str, lm, tokens: int) -> tuple[str, list[int]]:
    """The beginning of `text`, about `tokens` long, with the facts after paragraphs at even depths, and where they stand."""
    per_token = len(text[:200_000]) / len(lm.tokenizer(text[:200_000], add_special_tokens=False)["input_ids"])
    text = text[: int(tokens * per_token)]
    parts, cut = [], 0
    positions = []
    for number, (fact, _, _) in enumerate(FACTS):
        at = text.find("\n\n", int(len(text) * (number + 0.5) / len(FACTS)))
        at = len(text) if at < 0 else at
        parts.append(text[cut:at])
        positions.append(sum(map(len, parts)) + 1)
        parts.append(f" {fact}")
        cut = at
    parts.append(text[cut:])
    return "".join(parts), positions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[8_000, 32_000, 128_000])
    options = parser.parse_args()

    import memspan
    from memspan.assistant.prompts import question_message
    from memspan.models.generate import Sampling

    novel = needs(DATA / "gutenberg_en" / "pg1342.txt").read_text("utf-8") + needs(
        DATA / "gutenberg_en" / "pg84.txt"
    ).read_text("utf-8")
    lm = memspan.load_model("smollm2")
    sampling = Sampling(max_new_tokens=40)
    rows, misses = [], []
    for length in options.lengths:
        text, positions = hidden(novel, lm, length)
        memory = lm.read(text, source="novel")
        first = found = oracle = 0
        for (_, question, gold), position in zip(FACTS, positions, strict=True):
            answer = lm.ask(memory, question, sampling=sampling)
            best = answer.passages[0]
            first += best.start <= position < best.end
            found += contained(answer.text, (gold,))
            holder = next(p for p in map(memory.passage, range(len(memory))) if p.start <= position < p.end)
            ids = lm.prompt_ids(question_message(question, [holder]))
            reply = lm.tokenizer.decode(list(lm.decoder.generate(ids, sampling)), skip_special_tokens=True)
            oracle += contained(reply, (gold,))
            if not contained(answer.text, (gold,)):
                misses.append({"tokens": length, "question": question, "answer": answer.text, "oracle": reply})
        row = {
            "tokens": memory.tokens,
            "passages": len(memory),
            "first of 8": first,
            "answers": found,
            "oracle": oracle,
        }
        rows.append(row)
        print(row, flush=True)
    report.table(rows)
    report.save("needles", {"rows": rows, "misses": misses}, seeds=[])

    def draw(axes):
        x = range(len(rows))
        axes.bar([index - 0.25 for index in x], [row["first of 8"] for row in rows], 0.25, label="right passage first")
        axes.bar(list(x), [row["answers"] for row in rows], 0.25, label="answered from memory")
        axes.bar(
            [index + 0.25 for index in x], [row["oracle"] for row in rows], 0.25, label="answered, handed the passage"
        )
        axes.set_xticks(list(x), [f"{row['tokens']:,}" for row in rows])
        axes.set(xlabel="tokens read", ylabel="facts of 8")
        axes.legend(fontsize=8, loc="lower right")

    report.plot("needles", draw)


if __name__ == "__main__":
    main()
