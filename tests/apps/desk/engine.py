"""A server that summarises and translates as an engine would, by rules that a test can foresee."""

import re
from collections.abc import Callable
from typing import Any

from tests.servers import Reply, Route, as_json, completion

WINDOW = 1_200  # tokens: room for a few passages


def engine(answer: Callable[[list[dict[str, str]]], str]) -> Route:
    """A server with one model whose answers are those of a function of the messages."""

    def route(path: str, body: Any) -> Reply:
        if path == "/v1/models":
            return as_json({"object": "list", "data": [{"id": "fake", "owned_by": "test", "max_model_len": WINDOW}]})
        if path == "/v1/chat/completions":
            return completion(answer(body["messages"]), prompt=1_000)
        return Reply("404 page not found", 404)

    return route


def summariser(messages: list[dict[str, str]]) -> str:
    """The first words of each passage with its number, and a sentence with a number that is none; of notes the first."""
    prompt = messages[-1]["content"]
    if "Notes on a long text" in prompt:
        notes = re.findall(r"^- (.+?)\.? \[(\d+)\]$", prompt, re.MULTILINE)
        return " ".join(f"{text}. [{number}]" for text, number in notes[::2])
    passages = re.findall(r"^Text (\d+), from [^\n]*:\n> ([^\n]+)", prompt, re.MULTILINE)
    said = [f"{' '.join(text.split()[:12]).rstrip('.')} [{number}]." for number, text in passages]
    return " ".join([*said[:2], "Bananas were never mentioned by anybody here [99]."])


def translator(messages: list[dict[str, str]]) -> str:
    """Upper case, but for the words that it knows; it names a term that is in no text."""
    prompt = messages[-1]["content"]
    if "List the names" in prompt:
        return "Ayla = AYLANA\nNobody = NIEMAND\n- Korin = KORIN"
    return prompt.rpartition("\n\n")[2].replace("Ayla", "Aylana").upper()
