"""Read a long document once, then answer questions about it and show where each answer comes from.

    python examples/demo.py DOCUMENT.md MEMORY

The document is a logbook that `python -m examples.logbook.generate` wrote, with its questions beside it.
"""

import json
import sys
from pathlib import Path
from textwrap import shorten

import memspan
from memspan.assistant.confidence import MIN_CONFIDENCE
from memspan.data.documents import open_documents

FOREIGN = "Who won the football championship of 1998?"


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
    answered = either = 0
    for record in records:
        answer = lm.ask(memory, record["question"])
        gold = record["answer"].lower()
        in_answer = gold in answer.text.lower()
        in_quote = any(gold in quote.text.lower() for quote in answer.quotes)
        answered, either = answered + in_answer, either + (in_answer or in_quote)
        print(f"Q: {record['question']}\nA: {shorten(answer.text, 200)}")
        for quote in answer.quotes:
            print(f"   > {shorten(quote.text, 200)}\n   {quote.source}, {quote.location}")
        print(f"   right answer: {record['answer']} ({record['date']}), confidence {answer.confidence:.2f}\n")
    nothing = lm.ask(memory, FOREIGN, min_confidence=MIN_CONFIDENCE)
    print(f"Q: {FOREIGN}\nA: {shorten(nothing.text, 200)}\n   confidence {nothing.confidence:.2f}\n")
    print(
        f"Of {len(records)} questions, {either} were answered in the model's words or in the quoted sentence, {answered} of them "
        "in the model's.\nThe embedded model has only 135 million parameters; a larger one answers better from the same "
        "passages: memspan ask --model."
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
