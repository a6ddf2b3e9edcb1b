"""The records of sources as a shard holds them: JSON that anybody may have written, checked field by field."""

import json
import re
from collections.abc import Mapping
from typing import Any

MOST_LEVELS = 32  # of objects and lists in the meta of a source
FIRST_YEAR_BEYOND = 253402300800.0  # the year 10000 in unix seconds: dates end there
FIRST_YEAR = -62135596800.0  # the year 1 in unix seconds: dates begin there

_SHA256 = re.compile(r"[0-9a-f]{64}")
LARGEST = 2**53  # what other readers of JSON count exactly


def strict_json(raw: bytes) -> Any:
    """The value of a JSON text in UTF-8, without repeated keys, NaN and infinity. Raises ValueError or RecursionError."""
    return json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return unique


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number")


def parse_records(raw: bytes) -> list[dict[str, Any]]:
    """The fields of each record, of the right types and within bounds. Raises ValueError or RecursionError."""
    records = strict_json(raw)
    if type(records) is not list or not all(type(record) is dict for record in records):
        raise ValueError("its sources must be a list of records")
    for record in records:
        _check_record(record)
    if len({record["name"] for record in records}) != len(records):
        raise ValueError("two sources have one name")
    if b"\\u" in raw:  # half a surrogate pair can be written in JSON, but not in UTF-8
        json.dumps(records, ensure_ascii=False).encode()
    return records


def _check_record(record: Mapping[str, Any]) -> None:
    types = {"name": str, "kind": str, "sha256": str, "complete": bool, "meta": dict}
    check_types(record, {**types, "characters": int, "added": None})
    if not record["name"]:
        raise ValueError("the name of a source is empty")
    check_count("the characters of a source", record["characters"])
    check_sha256(record["sha256"])
    if not is_moment(record["added"]):
        raise ValueError("a source was added at an impossible time")
    check_meta(record["meta"])


def is_moment(value: object) -> bool:
    """Whether it is a time in unix seconds, from 1970 to the year 9999."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < FIRST_YEAR_BEYOND


def check_meta(value: object, levels: int = MOST_LEVELS) -> None:
    """Raises ValueError if objects and lists are nested deeper than so many levels."""
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if levels == 0 and isinstance(value, dict | list):
        raise ValueError(f"the meta of a source must have at most {MOST_LEVELS} levels of objects and lists")
    for child in children:
        check_meta(child, levels - 1)


def check_types(fields: Mapping[str, Any], types: Mapping[str, type | None]) -> None:
    """Raises ValueError unless there are exactly these fields, of exactly these types; None allows any."""
    if fields.keys() != types.keys():
        raise ValueError(f"its fields must be {', '.join(sorted(types))}")
    for name, type_ in types.items():
        if type_ is not None and type(fields[name]) is not type_:
            raise ValueError(f"{name} must be of type {type_.__name__}, got {type(fields[name]).__name__}")


def check_count(what: str, value: object) -> None:
    """Raises ValueError unless it is an integer from 0 to 2^53."""
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{what} must be a count")


def check_sha256(value: str) -> None:
    """Raises ValueError unless it is a SHA-256 sum in hex."""
    if _SHA256.fullmatch(value) is None:
        raise ValueError("a checksum must be 64 hexadecimal digits")
