"""Reads a long document once, then answers questions about it and shows where each answer comes from.

    python examples/demo.py DOCUMENT.md MEMORY

The document is one that make_logbook.py wrote; its questions lie beside it.
"""

import json
import sys
from pathlib import Path

import memspan
from memspan.data.readers import open_documents


def main(document: str, folder: str) -> None:
    print("Loading the embedded model (the first time it is downloaded and converted) ...", flush=True)
    lm = memspan.load_model("smollm2")
    memory = lm.new_memory(folder)

    def progress(step: memspan.Progress) -> None:
        print(f"\r  {step.tokens:,} tokens, {step.characters / (step.size or 1):.0%}", end="", flush=True)

    print(f"Reading {document} ...", flush=True)
    for one in open_documents([document]):
        lm.read(one, memory, progress=progress)
    print(f"\r  {memory.tokens:,} tokens in {len(memory)} passages, {memory.nbytes / 1e6:.1f} MB in {folder}\n")

    questions = Path(document).with_suffix(".questions.jsonl")
    if not questions.exists():
        questions = Path(document + ".questions.jsonl")
    for line in questions.read_text("utf-8").splitlines()[:6]:
        asked = json.loads(line)
        answer = lm.ask(memory, asked["question"])
        place = answer.passages[0]
        print(f"Q: {asked['question']}\nA: {answer.text}")
        print(f"   from {place.source}, characters {place.start:,}-{place.end:,}, score {place.score:.1f}")
        print(f"   the logbook says: {asked['answer']} ({asked['date']})\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
