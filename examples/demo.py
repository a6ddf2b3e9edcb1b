"""Read a long document once, then answer questions about it and show where each answer comes from.

    python examples/demo.py DOCUMENT.md MEMORY

The document is a logbook that `python -m examples.logbook.generate` wrote, with its questions beside it.
"""

import json
import sys
from pathlib import Path
from textwrap import shorten

import memspan
from memspan.data.documents import open_documents


def main(document: str, folder: str) -> None:
    print("Loading the embedded model (the first time it is downloaded and converted) ...", flush=True)
    lm = memspan.load_model("smollm2")
    memory = lm.new_memory(folder)

    def progress(step: memspan.ReadProgress) -> None:
        print(f"\r  {step.tokens:,} tokens, {step.characters / (step.size or 1):.0%}", end="", flush=True)

    print(f"Reading {document} ...", flush=True)
    for source in open_documents([document]):
        lm.read(source, memory, progress=progress)
    print(f"\r  {memory.tokens:,} tokens in {len(memory)} passages, {memory.nbytes / 1e6:.1f} MB in {folder}\n")

    questions = Path(document).with_suffix(".questions.jsonl")
    if not questions.exists():
        questions = Path(document + ".questions.jsonl")
    records = [json.loads(line) for line in questions.read_text("utf-8").splitlines()]
    retrieved = correct = 0
    for record in records:
        answer = lm.ask(memory, record["question"])
        gold = record["answer"].lower()
        holding = [passage for passage in answer.passages if gold in passage.text.lower()]
        retrieved, correct = retrieved + bool(holding), correct + (gold in answer.text.lower())
        passage = (holding or answer.passages)[0]
        print(f"Q: {record['question']}\nA: {shorten(answer.text, 200)}")
        print(f"   from {passage.source}, characters {passage.start:,}-{passage.end:,}, score {passage.score:.1f}")
        if holding:  # the part of the passage around the answer
            at = passage.text.lower().index(gold)
            print(f"   > {shorten(passage.text[max(0, at - 120) : at + 60], 200)}")
        print(f"   right answer: {record['answer']} ({record['date']})\n")
    print(
        f"Of {len(records)} questions, {retrieved} were retrieved with a passage that holds the answer, and {correct} were "
        "answered correctly.\nThe embedded model has only 135 million parameters; a larger one answers better from the same "
        "passages: memspan ask --model."
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
