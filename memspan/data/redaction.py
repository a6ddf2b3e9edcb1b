"""Personal data and secrets taken out of a text before anything of it is stored.

    Redaction(["email", "phone"])("Write to ann@example.org")  ->  "Write to [EMAIL]"

Each kind is a set of patterns, most of them with a check of the digits, so that page numbers and prices stay. What has no form of its
own, such as the name of a person, is found by a function that the user gives (`also`), for which Presidio is one choice.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from memspan.data.marks import Mark
from memspan.errors import UsageError

LONGEST: Final = 8_192  # characters of the longest secret that is found whole: a private key
REDACTED: Final = "redacted"  # in the meta of a source: the kinds of secrets that were taken out of its text


class Found(NamedTuple):
    """A secret in a text: its kind, and its first and end character."""

    kind: str
    start: int
    end: int


Finder = Callable[[str], Iterable[Found]]
Check = Callable[[str], bool]


@dataclass(frozen=True)
class _Form:
    """How secrets of a kind look: the whole match, or its group `secret`; `check` sees that without spaces and hyphens."""

    pattern: re.Pattern[str]
    check: Check = lambda secret: True
    parts: re.Pattern[str] | None = None  # where the match may end earlier, if the check fails


def _compiled(pattern: str, check: Check = lambda secret: True, parts: str | None = None) -> _Form:
    return _Form(re.compile(pattern), check, None if parts is None else re.compile(parts))


def _is_luhn(number: str) -> bool:
    """ISO/IEC 7812: from the right, every second digit doubled, the digits' sum a multiple of 10."""
    digits = [int(digit) for digit in reversed(number)]
    return sum(digits[::2]) % 10 == sum(sum(divmod(2 * digit, 10)) for digit in digits[1::2]) * 9 % 10


def _is_iban(number: str) -> bool:
    """ISO 13616: the first four characters moved behind the rest, letters as 10 to 35, 1 modulo 97."""
    return 15 <= len(number) <= 34 and int("".join(str(int(each, 36)) for each in number[4:] + number[:4])) % 97 == 1


def _is_resident_id(number: str) -> bool:
    """GB 11643: a weighted sum of the first 17 digits gives the last one."""
    weighted = sum(int(digit) * pow(2, 17 - position, 11) for position, digit in enumerate(number[:17]))
    return number[17].upper() == "10X98765432"[weighted % 11]


def _is_nir(number: str) -> bool:
    """The French number of social security: 97 less its first 13 digits modulo 97."""
    department, shift = number[5:7], {"2A": 19, "2B": 18}
    if department in shift:  # Corsica
        number = f"{number[:5]}{shift[department]}{number[7:]}"
    return number.isdigit() and 97 - int(number[:13]) % 97 == int(number[13:])


def _is_tax_id(number: str) -> bool:
    """The German tax number, ISO 7064 modulo 11, 10; of its first ten digits one or two come more than once."""
    product = 10
    for digit in number[:10]:
        total = (int(digit) + product) % 10 or 10
        product = 2 * total % 11
    return (11 - product) % 10 == int(number[10]) and len(set(number[:10])) in (8, 9)


def _is_phone(number: str) -> bool:
    return 8 <= sum(map(str.isdigit, number)) <= 20


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


_WORD = "A-Za-z0-9À-ɏ"
_EXTENSION = r"(?: ?(?:x|ext\.?|#) ?\d{1,6})?"
_DATE = r"(?!(?:[0-3]?\d[ ./-][01]?\d|[01]?\d[ ./-][0-3]?\d)(?:[./-]\d\d|[ ./-](?:19|20)\d\d)(?!\d))"
_LABELS = r"passwords?|passwd|passphrase|pwd|passwort|kennwort|mot de passe|contraseña|密码|口令|密碼"

_FORMS: Final[dict[str, tuple[_Form, ...]]] = {
    "key": (
        _compiled(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[\s\S]{1,8000}?-----END [A-Z ]{0,30}PRIVATE KEY-----"),
        _compiled(r"(?<![A-Za-z0-9_-])eyJ[\w-]{10,3000}\.[\w-]{10,3000}\.[\w-]{10,1000}"),  # a JSON web token
        _compiled(
            r"(?<![A-Za-z0-9_-])(?:sk-[A-Za-z0-9_-]{20,200}|gh[opsur]_[A-Za-z0-9]{30,250}|github_pat_[A-Za-z0-9_]{30,250}"
            r"|glpat-[A-Za-z0-9_-]{18,64}|xox[abeoprs]-[A-Za-z0-9-]{10,250}|hf_[A-Za-z0-9]{30,64}"
            r"|AIza[A-Za-z0-9_-]{35}|(?:AKIA|ASIA)[A-Z0-9]{16}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,250})"
        ),
    ),
    "password": (
        _compiled(rf"(?i:{_LABELS})\s{{0,3}}(?:[:=：]|是|为|為)\s{{0,3}}(?P<secret>[^\s,;，。；]{{4,64}})"),
        _compiled(rf"(?i:{_LABELS}) (?:is|ist|lautet|est|es) (?P<secret>(?=[^\s,;]{{0,64}}\d)[^\s,;]{{4,64}})"),
        _compiled(r"[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@]{1,64}:(?P<secret>[^\s/@]{1,64})@"),
    ),
    "email": (
        _compiled(
            rf"(?<![{_WORD}.%+_-])[{_WORD}.%+_-]{{1,64}}@(?:[{_WORD}-]{{1,63}}\.){{1,8}}(?:xn--[a-z0-9-]{{2,40}}|[A-Za-zÀ-ɏ]{{2,24}})"
            rf"(?![{_WORD}-])"
        ),
    ),
    "iban": (
        _compiled(
            r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])",
            _is_iban,
            parts=r"(?<=[A-Z0-9])(?= )",
        ),
    ),
    "id": (
        _compiled(
            r"(?<![A-Za-z0-9])[1-9]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?![\dA-Za-z])",
            _is_resident_id,
        ),
        _compiled(
            r"(?<![A-Za-z0-9-])\d{3}-\d{2}-\d{4}(?![A-Za-z0-9-])"
        ),  # of the United States: social security, and for tax alone
        _compiled(
            r"(?<![A-Za-z0-9])[12] ?\d{2} ?(?:0[1-9]|1[0-2]) ?\d[\dAB] ?\d{3} ?\d{3} ?\d{2}(?![A-Za-z0-9])", _is_nir
        ),
        _compiled(r"(?<![A-Za-z0-9])[A-Z]{2}(?: ?\d{2}){3} ?[A-DT](?![A-Za-z0-9])"),  # British
        _compiled(r"(?<![A-Za-z0-9.,-])[1-9]\d(?: ?\d{3}){3}(?![A-Za-z0-9]|[.,]\d)", _is_tax_id),
    ),
    "card": (_compiled(r"(?<![A-Za-z0-9.,-])[1-6](?:[ -]?\d){11,18}(?![A-Za-z0-9]|[.,]\d)", _is_luhn),),
    "phone": (
        _compiled(
            r"(?<![A-Za-z0-9+])(?:\+|(?<!\d )00)[1-9](?:[ ()./-]{0,2}\d){7,14}" + _EXTENSION + r"(?![A-Za-z0-9])",
            _is_phone,
        ),
        _compiled(
            rf"(?<![A-Za-z0-9.,/+-])(?<!\d ){_DATE}\(?0[1-9]\d{{0,3}}\)?(?:[ /-]?\d){{5,9}}(?![A-Za-z0-9]|[.,]\d|[/-]\d)",
            lambda it: len(it) >= 9,
        ),
        _compiled(r"(?<![A-Za-z0-9])1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![A-Za-z0-9])"),  # Chinese mobile
        _compiled(
            r"(?<![A-Za-z0-9-])(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-]?)\d{3}[ .-]?\d{4}"
            + _EXTENSION
            + r"(?![A-Za-z0-9-])"
        ),  # North American
    ),
    "ip": (
        _compiled(r"(?<![A-Za-z0-9.])\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)", _is_address),
        _compiled(r"(?<![A-Za-z0-9:.])(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)[0-9A-Fa-f:]{6,39}(?![A-Za-z0-9:])", _is_address),
    ),
}

KINDS: Final = tuple(_FORMS)
"""The kinds of secrets that are found by their form; where two overlap, the one that comes earlier here counts."""


def redacted_kinds(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The kinds of secrets that were taken out of a source, by its meta."""
    kinds = meta.get(REDACTED)
    return tuple(kinds.split(",")) if isinstance(kinds, str) and kinds else ()


class Redaction:
    """Puts "[EMAIL]", "[PHONE]" and so on in place of what it finds. Two with the same kinds leave the same text."""

    def __init__(self, kinds: Sequence[str] = KINDS, also: Finder | None = None) -> None:
        """
        Args:
            kinds: which of KINDS are found.
            also: finds more in a text of at most some 70,000 characters; what it finds takes precedence, under kinds of its own.

        Raises UsageError for an unknown kind.
        """
        for kind in kinds:
            if kind not in KINDS:
                raise UsageError(f"kind of redaction must be all or one of {', '.join(KINDS)}, got {kind!r}")
        self.kinds = tuple(kind for kind in KINDS if kind in kinds)
        self.also = also

    @property
    def name(self) -> str:
        """Which kinds are taken out, as it is kept with a source."""
        return ",".join([*self.kinds, *([] if self.also is None else ["also"])])

    def __call__(self, text: str) -> str:
        """The text with all secrets replaced."""
        return "".join(portion for portion in self.portions([text]) if isinstance(portion, str))

    def find(self, text: str) -> list[Found]:
        """The secrets of a text in order; none overlap."""
        candidates = [] if self.also is None else list(self.also(text))
        candidates += [found for kind in self.kinds for form in _FORMS[kind] for found in _found(kind, form, text)]
        chosen, taken = list[Found](), bytearray(len(text))
        for found in candidates:
            if found.start < found.end and not any(taken[found.start : found.end]):
                taken[found.start : found.end] = b"\1" * (found.end - found.start)
                chosen.append(found)
        return sorted(chosen, key=lambda found: found.start)

    def portions(self, portions: Iterable[str | Mark]) -> Iterator[str | Mark]:
        """A stream of text and marks with all secrets replaced, also those that a border between portions divides.

        At most LONGEST characters and one portion are held back. A mark within a secret comes before its replacement.
        """
        text, marks = "", list[tuple[int, Mark]]()
        for portion in portions:
            if isinstance(portion, Mark):
                value = portion.value
                redacted = self(value) if isinstance(value, str) and portion.kind != "box" else value
                marks.append((len(text), Mark(portion.kind, redacted)))
                continue
            text += portion
            if len(text) > 2 * LONGEST:
                found = self.find(text)
                end = _safe_end(text, found)
                yield from _replaced(text[:end], [each for each in found if each.end <= end], marks)
                marks = [(offset - end, mark) for offset, mark in marks if offset > end]
                text = text[end:]
        yield from _replaced(text, self.find(text), marks)


def parse_kinds(kinds: str) -> Redaction:
    """The redaction of "all" kinds, or of some, separated by commas. Raises UsageError for an unknown or no kind."""
    if kinds == "all":
        return Redaction()
    return Redaction([kind.strip() for kind in kinds.split(",")])


def _safe_end(text: str, found: Sequence[Found]) -> int:
    """Where a text is cut: LONGEST characters before its end or a little earlier, behind a white space if there is one, and outside of what was found."""
    end = len(text) - LONGEST
    near = end - LONGEST // 2  # a text without white space, such as Chinese, is cut anywhere
    end = max(text.rfind("\n", near, end), text.rfind(" ", near, end)) + 1 or end
    for each in found:
        if each.start < end < each.end:
            return each.start
    return end


def _found(kind: str, form: _Form, text: str) -> Iterator[Found]:
    for match in form.pattern.finditer(text):
        group = "secret" if "secret" in form.pattern.groupindex else 0
        start, end = match.span(group)
        ends = [end] if form.parts is None else [end, *(cut.start() for cut in form.parts.finditer(text, start, end))]
        for end in sorted(ends, reverse=True):
            if form.check(re.sub("[ -]", "", text[start:end])):
                yield Found(kind, start, end)
                break


def _replaced(text: str, found: Sequence[Found], marks: Sequence[tuple[int, Mark]]) -> Iterator[str | Mark]:
    """The text in portions, with the secrets replaced and the marks in their places."""
    pending = [(offset, mark) for offset, mark in marks if offset <= len(text)]
    start = 0
    for each in [*found, Found("", len(text), len(text))]:
        while pending and pending[0][0] < max(each.end, each.start + 1):
            offset, mark = pending.pop(0)
            if start < min(offset, each.start):
                yield text[start : min(offset, each.start)]
                start = min(offset, each.start)
            yield mark
        if start < each.start:
            yield text[start : each.start]
        if each.kind:
            yield f"[{each.kind.upper()}]"
        start = each.end
