"""The parts around the contents of a web page: navigation, page header and footer, asides, notices about cookies.

They are told from the contents by the marks that the page carries for screen readers, not by what they say: elements
and roles that HTML defines as landmarks (W3C, HTML Accessibility API Mappings 1.0).
"""

import re
from collections import Counter
from collections.abc import Mapping

_ELEMENTS = ("nav", "header", "footer", "aside", "dialog")
_ROLES = frozenset({"navigation", "banner", "contentinfo", "complementary", "search", "dialog", "alertdialog"})
_TAGS = re.compile(rf"<(/?)({'|'.join(_ELEMENTS)})(?=[\s/>])", re.I)
_COOKIE_NOTICE = re.compile(  # classes and ids, also those of the most common consent managers
    r"(?:^|[\s_-])(?:cookies?|gdpr)[_-]?(?:banner|bar|box|consent|dialog|disclaimer|message|modal|notice|overlay|popup)"
    r"(?:$|[\s_-])|(?:^|\s)(?:onetrust-|CybotCookiebot|didomi-host|qc-cmp2-|usercentrics-)",
    re.I,
)
_NOTICE_ELEMENTS = frozenset({"div", "form", "section"})


class Landmarks:
    """Which elements of a page are landmarks.

    An element that HTML leaves open, as a page without `</nav>` does, is none: its end, and so its contents, are
    unknown. The elements are given in the order of the page, each to `open` and `close`.
    """

    def __init__(self, markup: str) -> None:
        counts = Counter((match[2].lower(), match[1]) for match in _TAGS.finditer(markup))
        self._closed = frozenset(name for name in _ELEMENTS if counts[name, ""] <= counts[name, "/"])
        self._articles = 0  # articles and sections that are open
        self._mains = 0

    def open(self, tag: str) -> None:
        """Take note of an element whose contents follow."""
        self._articles += tag in ("article", "section")
        self._mains += tag == "main"

    def close(self, tag: str) -> None:
        """Take note of the end of an element that was opened."""
        self._articles -= tag in ("article", "section")
        self._mains -= tag == "main"

    def include(self, tag: str, attributes: Mapping[str, str]) -> bool:
        """Whether an element is a landmark, given what is open around it."""
        if tag in _ELEMENTS and tag not in self._closed:
            return False
        role = attributes.get("role", "").strip().lower()
        if role:
            return role in _ROLES and tag not in ("html", "body")
        if tag == "nav":
            return True
        if tag in ("header", "footer"):
            return not self._articles and not self._mains
        if tag == "aside":
            return not self._articles
        if tag == "dialog":
            return "open" not in attributes
        if tag in _NOTICE_ELEMENTS and not self._articles and not self._mains:
            return _COOKIE_NOTICE.search(f"{attributes.get('id', '')} {attributes.get('class', '')}"[:1000]) is not None
        return False
