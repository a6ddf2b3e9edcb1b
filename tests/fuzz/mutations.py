"""Hypothesis strategies that change valid bytes, JSON values and archives in a few places."""

import io
import json
import zipfile
from copy import deepcopy
from typing import Any

from hypothesis import strategies as st

WORDS = [
    b"\x00", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\x00" * 64, b"\xff" * 8, b"A" * 3000, b"\n", b"\r", b'"',
    b"{", b"}", b"[" * 500, b"<", b">", b"&", b"&#1114112;", b"&#0;", b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<!DOCTYPE x [", b"/",
    b"..", b"\\", b"%s", b"-1", b"1e308", b"NaN", b"null", b"9" * 400, b"\x80\x00\x00\x00", b"\x7f\xff\xff\xff", b"PK\x03\x04",
    b"endobj", b"stream\n", b"/Length 99999999", b"/Kids [1 0 R]", b"gridSpan", b"xmlns:x='y'", b"CREATE VIEW", b"\xe2\x80\xae",
]  # fmt: skip
VALUES = [
    None, True, False, 0, 1, -1, 2, 255, 2**31, -(2**31), 2**63, 2**70, 10**400, 0.5, -0.0, 1e300, float("nan"), float("inf"), "", "x",
    "-1", "\x00", "\ud800", "../x", "/etc/passwd", "x" * 5000, "é\u202e", [], [[]], {}, [None], [0, 0], {"a": None}, [1, "a", None],
]  # fmt: skip
_DEEP: Any = 0
for _ in range(300):
    _DEEP = [_DEEP]

_edits = st.lists(
    st.tuples(
        st.sampled_from(["flip", "set", "insert", "delete", "repeat", "word", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.integers(0, 2**16),
        st.binary(max_size=6) | st.sampled_from(WORDS),
    ),
    min_size=1,
    max_size=5,
)


def mutated(content: bytes) -> st.SearchStrategy[bytes]:
    """`content` after one to five edits: a bit, a byte, bytes put in, taken out or repeated, a cut."""
    return _edits.map(lambda edits: _edited(content, edits))


def _edited(content: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    changed = bytearray(content)
    for kind, position, number, payload in edits:
        at = int(position * len(changed))
        span = number % 64 + 1
        if kind == "flip" and changed:
            changed[at] ^= 1 << number % 8
        elif kind == "set":
            changed[at : at + len(payload)] = payload
        elif kind in ("insert", "word"):
            changed[at:at] = payload
        elif kind == "delete":
            del changed[at : at + span]
        elif kind == "repeat":
            changed[at:at] = changed[at : at + span] * (number % 50)
        elif kind == "cut":
            del changed[at:]
    return bytes(changed)


def values() -> st.SearchStrategy[Any]:
    """A value that JSON can hold (NaN, and numbers of any size, too)."""
    return st.sampled_from([*VALUES, _DEEP]) | st.integers() | st.floats() | st.text(max_size=8)


_json_edits = st.lists(
    st.tuples(
        st.integers(0, 10**6), st.sampled_from(["replace", "replace", "delete", "add", "double", "swap"]), values()
    ),
    min_size=1,
    max_size=3,
)


def mutated_json(value: Any) -> st.SearchStrategy[Any]:
    """A JSON value in which one to three nodes were replaced, deleted, added, doubled or exchanged for their neighbour."""
    return _json_edits.map(lambda edits: _json_edited(value, edits))


def _json_edited(value: Any, edits: list[tuple[int, str, Any]]) -> Any:
    root = [deepcopy(value)]
    for choice, kind, new in edits:
        nodes = list(_nodes(root))
        parent, key = nodes[choice % len(nodes)]
        new = deepcopy(new)
        if kind == "replace" or parent is root:
            parent[key] = new
        elif kind == "delete":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, deepcopy(parent[key]) if kind == "double" else new)
            if kind == "swap":
                parent[key], parent[key + 1] = parent[key + 1], parent[key]
        else:
            parent["x" if kind == "add" else f"{key}"] = new
            if kind == "swap":
                parent[key] = parent[next(iter(parent))]
    return root[0]


def _nodes(root: list[Any]) -> Any:
    """The containers and keys of all values below `root`, breadth first, at most 5,000."""
    queue, count = [root], 0
    while queue and count < 5000:
        parent: Any = queue.pop(0)
        for key in list(parent) if isinstance(parent, dict) else range(len(parent)):
            count += 1
            yield parent, key
            if isinstance(parent[key], dict | list):
                queue.append(parent[key])


def text_of(value: Any) -> bytes:
    """A JSON value as bytes; lone surrogates as escapes, NaN as Python writes it."""
    return json.dumps(value).encode()


def mutated_archive(content: bytes) -> st.SearchStrategy[bytes]:
    """A zip archive in which a member was edited, left out, or given the contents of another."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    names = sorted(members)

    def changed(name: str, edits: Any, what: str, other: str) -> bytes:
        new = dict(members)
        if what == "drop":
            del new[name]
        else:
            new[name] = members[other] if what == "swap" else _edited(members[name], edits)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in new.items():
                archive.writestr(member, data)
        return buffer.getvalue()

    return st.builds(
        changed,
        st.sampled_from(names),
        _edits,
        st.sampled_from(["edit"] * 6 + ["drop", "swap"]),
        st.sampled_from(names),
    )
