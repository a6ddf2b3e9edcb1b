"""Hostile tables, letters and subtitles, of the same kind as those in `tests.data.hostile`."""

from collections.abc import Callable

Case = tuple[str, str, Callable[[int], bytes], int, str]  # as the fields of Hostile
CUE = b"00:00:01,000 --> 00:00:02,000\n"

CASES: list[Case] = [
    ("delimiters", ".csv", lambda n: b"a,b\n" + b"," * n, 8_000, ""),
    ("more columns than are read", ".csv", lambda n: b"a,b\n" + b"x," * n, 10_001, "columns in line 2"),
    ("a row without end", ".csv", lambda n: b'a,b\n"' + b'\n","' * n, 260_000, "characters in a row"),
    ("a field without end", ".csv", lambda n: b'a,b\n"' + b"x\n" * n, 100_000, "bad row in line 2"),
    ("quotes", ".csv", lambda n: b"a,b\n" + b'"' * n, 8_000, ""),
    ("long names of columns", ".csv", lambda n: b"a" * n + b",b\n" + b"1,2\n" * n, 8_000, ""),
    ("rows", ".csv", lambda n: b"a,b\n" + b"1,2\n" * n, 20_000, ""),
    ("empty rows", ".csv", lambda n: b"\n" * n + b"a", 20_000, ""),
    ("NUL", ".csv", lambda n: b"a,b\n" + b"\0" * n, 8_000, "NUL"),
    ("tabs", ".tsv", lambda n: b"\t" * n + b"x", 8_000, ""),
    ("header fields", ".eml", lambda n: b"Subject: x\n" + b"A: b\n" * n, 4_000, ""),
    ("more header fields than are read", ".eml", lambda n: b"Subject: x\n" + b"A: b\n" * n, 10_001, "header fields"),
    ("brackets in an address", ".eml", lambda n: b"From: " + b"(" * n + b"\n\nx", 8_000, ""),
    ("addresses", ".eml", lambda n: b"To: " + b"a@b, " * n + b"\n\nx", 8_000, ""),
    ("encoded words", ".eml", lambda n: b"Subject: " + b"=?utf-8?q?a?= " * n + b"\n\nx", 4_000, ""),
    ("folded lines", ".eml", lambda n: b"Subject: a\n" + b" b\n" * n + b"\nx", 8_000, ""),
    ("more parts than are read", ".eml", lambda n: _parts(n), 10_001, "parts in a message"),
    ("parts", ".eml", lambda n: _parts(n), 1_000, ""),
    ("parts in parts", ".eml", lambda n: _nested(n), 400, ""),
    ("messages in messages", ".eml", lambda n: b"Content-Type: message/rfc822\n\n" * n + b"Subject: x\n\nx", 200, ""),
    (
        "a page",
        ".eml",
        lambda n: b"Subject: x\nContent-Type: text/html\n\n" + b"<div>" * n,
        20_000,
        "within one another",
    ),
    ("messages", ".mbox", lambda n: b"From a\nSubject: x\n\nx\n\n" * n, 300, ""),
    ("empty messages", ".mbox", lambda n: b"From a\n\n" * n, 2_000, ""),
    ("subtitles", ".srt", lambda n: b"1\n" + CUE + b"x\n\n" * 1 + (CUE + b"y\n\n" + CUE + b"z\n\n") * n, 2_000, ""),
    ("times", ".srt", lambda n: CUE * n + b"x", 4_000, ""),
    ("tags that do not end", ".vtt", lambda n: CUE + b"<v " * n + b"x", 8_000, ""),
    ("a subtitle without end", ".vtt", lambda n: CUE + b"x\n" * n, 20_000, ""),
]


def _parts(n: int) -> bytes:
    return b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n" + b"--b\n\nx\n" * n + b"--b--\n"


def _nested(n: int) -> bytes:
    """Parts in parts, each with a boundary of its own."""
    parts = (b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (k, k) for k in range(n))
    return b"Subject: x\n" + b"".join(parts) + b"\nx\n"
