"""Secrets are found by their form, wherever a stream is divided, and nothing of them reaches a memory."""

from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memspan import Redaction
from memspan.data.marks import Mark
from memspan.data.redaction import KINDS, LONGEST, Found
from memspan.errors import UsageError

SECRETS = {
    "email": ["ann.lee@example.org", "müller+news@post.example.de", "li@xn--fiq228c.cn"],
    "phone": ["+49 170 1234567", "(555) 234-5678", "01 42 68 53 00", "0171/1234567", "13812345678", "212-555-0198 x34"],
    "card": ["4111 1111 1111 1111", "378282246310005", "5500-0000-0000-0004"],
    "iban": ["DE89 3704 0044 0532 0130 00", "FR1420041010050500013M02606"],
    "id": ["078-05-1120", "11010519491231002X", "2 55 08 14 168 025 38", "AB 12 34 56 C", "86 095 742 719"],
    "ip": ["192.168.1.12", "2001:db8:85a3::8a2e:370:7334"],
    "key": [
        "sk-abcdefghijklmnopqrstuvwx",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w",
    ],
}
CASES = [(kind, secret) for kind, secrets in SECRETS.items() for secret in secrets]
PLAIN = [
    "On 01-02-2026, at 10:30:12, 12,345,678 people saw 0.12345678 of 3.14159265358979.",
    "Chapter 12, pages 1984 to 2026; order 4111 1111 1111 1112; DE88 3704 0044 0532 0130 00.",
    "The password is wrong; reset your password. A std::vector costs 1,299.00 EUR.",
    "于2026年11月27日，共12345678人。身份证号码110105194912310021。",
]


@pytest.mark.parametrize(("kind", "secret"), CASES)
@pytest.mark.parametrize("sentence", ["Write to {}, please.", "号码是{}。", "{}"])
def test_a_secret_is_found_whole_by_its_form(kind: str, secret: str, sentence: str) -> None:
    redacted = Redaction()(sentence.format(secret))
    assert redacted == sentence.format(f"[{kind.upper()}]")


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password: hunter2, then", "password: [PASSWORD], then"),
        ("Passwort ist geheim99.", "Passwort ist [PASSWORD]"),
        ("密码：abc12345，好", "密码：[PASSWORD]，好"),
        ("postgres://me:s3cret@host/db", "postgres://me:[PASSWORD]@host/db"),
    ],
)
def test_of_a_password_only_the_value_goes(text: str, redacted: str) -> None:
    assert Redaction()(text) == redacted


@pytest.mark.parametrize("text", PLAIN)
def test_numbers_that_are_no_secrets_stay(text: str) -> None:
    assert Redaction()(text) == text


def test_only_the_kinds_that_were_asked_for_go() -> None:
    text = "ann@example.org or 13812345678"
    assert Redaction(["phone"])(text) == "ann@example.org or [PHONE]"
    with pytest.raises(UsageError, match=f"must be all or one of {', '.join(KINDS)}, got 'face'"):
        Redaction(["face"])


def test_a_function_of_the_user_finds_more() -> None:
    def names(text: str) -> Iterable[Found]:
        yield from (Found("person", at, at + 3) for at in range(len(text)) if text.startswith("Ann", at))

    assert Redaction(also=names)("Ann has ann@example.org") == "[PERSON] has [EMAIL]"


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([secret for _, secret in CASES]), st.sampled_from(["word", "12", "。"])), max_size=12
    ),
    st.data(),
)
def test_where_a_stream_is_divided_changes_nothing(words: list[str], data: st.DataObject) -> None:
    text = " ".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    portions: list[str | Mark] = []
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        portions += [text[start:end], Mark("page", end)]
    redacted = list(Redaction().portions(portions))
    assert "".join(part for part in redacted if isinstance(part, str)) == Redaction()(text)
    assert [part for part in redacted if isinstance(part, Mark)] == [
        part for part in portions if isinstance(part, Mark)
    ]


def test_a_secret_at_the_border_of_what_is_held_back() -> None:
    for shift in range(0, 24, 4):
        text = "x " * LONGEST + "y" * shift + " ann.lee@example.org" + " z" * LONGEST + " 13812345678"
        for size in (1000, 3 * LONGEST):
            portions = [text[start : start + size] for start in range(0, len(text), size)]
            redacted = "".join(str(part) for part in Redaction().portions(portions))
            assert redacted == text.replace("ann.lee@example.org", "[EMAIL]").replace("13812345678", "[PHONE]")


def test_a_text_without_white_space_is_not_held_back_as_a_whole() -> None:
    portions, given, most = ["海" * 1_000] * 60 + ["电话13812345678。"] + ["潮" * 1_000] * 30, 0, 0

    def stream() -> Iterator[str]:
        nonlocal given
        for portion in portions:
            given += len(portion)
            yield portion

    redacted = ""
    for part in Redaction().portions(stream()):
        if given < sum(map(len, portions)):
            most = max(most, given - len(redacted))
        redacted += str(part)
    assert redacted == "".join(portions).replace("13812345678", "[PHONE]")
    assert most <= 2 * LONGEST + 1_000


def test_marks_keep_their_places_and_lose_their_secrets() -> None:
    stream = ["One ", Mark("speaker", "+49 170 1234567"), "two ann@exa", Mark("page", 2), "mple.org three"]
    assert list(Redaction().portions(stream)) == [
        "One ",
        Mark("speaker", "[PHONE]"),
        "two ",
        Mark("page", 2),
        "[EMAIL]",
        " three",
    ]
