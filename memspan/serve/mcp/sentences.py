"""Wrong arguments of tools in one sentence each: which argument, what it must be, and what it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

_LONGEST = 60  # characters of a value that is shown
_NOUNS = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list of strings",
    "dict_type": "an object",
    "string_unicode": "text that can be written as UTF-8",
    "finite_number": "a finite number",
}


def sentence(error: ValidationError) -> str:
    """What is wrong with the first wrong argument."""
    problem = error.errors(include_url=False, include_context=True)[0]
    name = "".join(f"[{part}]" if index else str(part) for index, part in enumerate(problem["loc"]))
    kind, limits, given = problem["type"], problem.get("ctx", {}), _shown(problem["input"])
    if kind == "missing":
        return f"`{name}` is missing."
    if kind in _NOUNS:
        return f"`{name}` must be {_NOUNS[kind]}, got {given}."
    if kind in ("string_too_short", "string_too_long"):
        bound = "least" if kind.endswith("short") else "most"
        limit = limits["min_length" if kind.endswith("short") else "max_length"]
        return f"`{name}` must have at {bound} {limit:,} characters, got {len(problem['input']):,}."
    if kind in ("greater_than_equal", "less_than_equal"):
        bound, limit = ("least", limits["ge"]) if kind.startswith("greater") else ("most", limits["le"])
        return f"`{name}` must be at {bound} {limit:g}, got {given}."
    return f"`{name}`: {problem['msg']}, got {given}."


def unknown_argument(tool: str, arguments: Mapping[str, Any], known: Sequence[str]) -> str | None:
    """The sentence for the first argument that a tool does not have; None if it has them all."""
    unknown = next((name for name in arguments if name not in known), None)
    return None if unknown is None else f"{tool} has no argument {_shown(unknown)}; it has {', '.join(known)}."


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
