"""Reads a long document once, then answers questions about it and shows where each answer comes from.

    python examples/demo.py DOCUMENT.md MEMORY

The document is one that make_logbook.py wrote; its questions lie beside it.
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
    for one in open_documents([document]):
        lm.read(one, memory, progress=progress)
    print(f"\r  {memory.tokens:,} tokens in {len(memory)} passages, {memory.nbytes / 1e6:.1f} MB in {folder}\n")

    questions = Path(document).with_suffix(".questions.jsonl")
    if not questions.exists():
        questions = Path(document + ".questions.jsonl")
    asked = [json.loads(line) for line in questions.read_text("utf-8").splitlines()]
    found = said = 0
    for one in asked:
        answer = lm.ask(memory, one["question"])
        wanted = one["answer"].lower()
        holding = [passage for passage in answer.passages if wanted in passage.text.lower()]
        found, said = found + bool(holding), said + (wanted in answer.text.lower())
        place = (holding or answer.passages)[0]
        print(f"Q: {one['question']}\nA: {shorten(answer.text, 200)}")
        print(f"   from {place.source}, characters {place.start:,}-{place.end:,}, score {place.score:.1f}")
        if holding:  # what stands there, as far as it matters here
            at = place.text.lower().index(wanted)
            print(f"   > {shorten(place.text[max(0, at - 120) : at + 60], 200)}")
        print(f"   the logbook says: {one['answer']} ({one['date']})\n")
    print(
        f"Of {len(asked)} questions, what was recalled held the answer to {found}, and the answer said it in {said}. The "
        "embedded model is\nsmall, 135 million parameters; a larger one makes more of the same passages: memspan ask --model."
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
