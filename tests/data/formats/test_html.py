"""Web pages give their visible text, in the encoding that they declare."""

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from memspan.data.documents import open_documents
from memspan.errors import UsageError
from tests.data.files import CHINESE, refusal, text_of, written

PAGE = """<!DOCTYPE html><html><head><title>The  Light</title><style>p {color: red}</style></head>
<body><h1>Log</h1><!-- draft --><script>var x = "code";</script>
<p>A <b>bold</b> <i>sea</i>,
 wrapped.<br>Next line.</p><div hidden>unseen</div><p style="display: none">unseen</p>
<ul><li>oil</li><li>rope</li></ul>
<table><tr><th>ship</th><th>tons</th></tr><tr><td>Gull</td><td>40</td></tr></table>
<pre>
a
  b</pre>&copy; end</body></html>"""

PAGE_TEXT = """The Light

Log

A bold sea, wrapped.
Next line.

oil
rope

ship | tons
Gull | 40

a
  b

© end"""


@pytest.mark.parametrize("name", ["a.html", "a.htm", "a.XHTML"])
def test_a_web_page_gives_its_visible_text(tmp_path: Path, name: str) -> None:
    assert text_of(written(tmp_path / name, PAGE)) == PAGE_TEXT


def test_a_web_page_without_closing_tags_is_read(tmp_path: Path) -> None:
    page = "<html><head><title>T</title><body><p>one<p>two<ul><li>x<li>y"
    assert text_of(written(tmp_path / "a.html", page)) == "T\n\none\n\ntwo\n\nx\ny"


def test_a_web_page_may_declare_its_encoding(tmp_path: Path) -> None:
    page = f'<html><head><meta charset="gb2312"></head><body>{CHINESE}镕</body></html>'
    assert text_of(written(tmp_path / "a.html", page.encode("gb18030"))) == f"{CHINESE}镕"
    bare = written(tmp_path / "b.html", f"<p>{CHINESE * 20}</p>".encode("gb18030"))
    assert "--encoding gb18030" in refusal(bare)
    assert text_of(bare, "gb18030") == CHINESE * 20


def test_a_wrong_encoding_deep_in_a_web_page_is_found(tmp_path: Path) -> None:
    page = b"<p>plain ascii</p>\n" * 20_000 + f"<p>{CHINESE * 20}</p>\n".encode("gb18030") * 20
    message = refusal(written(tmp_path / "a.html", page))
    assert "in line 20001; it looks like gb18030" in message


def test_a_deeply_nested_web_page_is_read(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.html", "<div>" * 5000 + "deep" + "</div>" * 5000)) == "deep"


def test_a_picture_named_html_is_refused(tmp_path: Path) -> None:
    assert "PNG image" in refusal(written(tmp_path / "a.html", b"\x89PNG\r\n\x1a\n\0\0"))


# --- the parts around the contents ------------------------------------------------------------------------------------

AROUND = """<body><header>Site</header><nav>menu menu</nav><div role="navigation">more menu</div>
<div class="x cookie-banner">We use cookies.</div><form role="search">find</form><dialog>Subscribe!</dialog>
<main><article><header><h1>Storm</h1></header><p>The lamp went out.</p><aside>a note</aside>
<div class="cookie-notice">on cookie notices</div><footer>by Ann</footer></article><aside>related</aside></main>
<aside>news</aside><div role="contentinfo">contact</div><footer>imprint</footer></body>"""


def test_navigation_and_the_header_and_footer_of_the_page_are_left_out(tmp_path: Path) -> None:
    text = text_of(written(tmp_path / "a.html", AROUND))
    assert text == "Storm\n\nThe lamp went out.\n\na note\n\non cookie notices\n\nby Ann"


def test_a_page_that_is_all_navigation_keeps_it(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.html", "<title>T</title><nav>menu</nav>")) == "T\n\nmenu"
    assert text_of(written(tmp_path / "b.html", "<header>a</header><footer>b</footer>")) == "a\n\nb"


@pytest.mark.parametrize("name", ["nav", "header", "footer", "aside", "dialog"])
def test_what_follows_a_landmark_that_does_not_end_is_kept(tmp_path: Path, name: str) -> None:
    assert text_of(written(tmp_path / "a.html", f"<p>a<{name}>b<p>c")) == "a\n\nb\n\nc"


def test_a_landmark_with_another_role_is_kept(tmp_path: Path) -> None:
    page = "<p>a</p><header role='none'>b</header><section><header>c</header></section><dialog open>d</dialog>"
    assert text_of(written(tmp_path / "a.html", page)) == "a\n\nb\n\nc\n\nd"


class Extractor(ModuleType):
    """Stands for trafilatura, which tests do without."""

    @staticmethod
    def extract(markup: str, **options: object) -> str | None:
        return "main words" if "<article>" in markup else None


def test_the_main_text_of_a_page_is_another_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", Extractor("trafilatura"))
    pages = [written(tmp_path / "a.html", "<article>words</article>"), written(tmp_path / "b.html", "<p>visible</p>")]
    documents = list(open_documents([*pages, written(tmp_path / "c.txt", "c")], main_text=True))
    assert ["".join(document.chunks()) for document in documents] == ["main words", "visible", "c"]
    names = [document.source for document in documents]
    assert names == [f"{tmp_path}/a.html#main-text", f"{tmp_path}/b.html#main-text", f"{tmp_path}/c.txt"]


def test_trafilatura_finds_the_main_text(tmp_path: Path) -> None:
    pytest.importorskip("trafilatura")
    body = "".join(f"<p>The keeper wrote line {line} of the logbook in the tower that night.</p>" for line in range(9))
    page = f"<body><div class='menu'><a href='/'>Home</a></div><article><h1>Log</h1>{body}</article></body>"
    (document,) = open_documents([written(tmp_path / "a.html", page)], main_text=True)
    text = "".join(document.chunks())
    assert "line 8 of the logbook" in text
    assert "Home" not in text


def test_without_the_extractor_its_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(UsageError, match=re.escape("pip install 'memspan[html]'")):
        open_documents([written(tmp_path / "a.txt", "words")], main_text=True)


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["<!--", "<![CDATA[", "<?", "<a "])
def test_a_megabyte_of_marks_that_do_not_end_is_read_at_once(tmp_path: Path, mark: str) -> None:
    assert text_of(written(tmp_path / "a.html", "words" + mark * 250_000)).startswith("words")


def test_a_page_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memspan.data.formats.html.MAX_PAGE", 1000)
    assert len(text_of(written(tmp_path / "a.html", "x" * 1000))) == 1000
    assert "more bytes of markup than are read from a document (1,000)" in refusal(
        written(tmp_path / "b.html", "x" * 1001)
    )


def test_end_tags_are_counted_with_the_open_elements_that_they_may_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memspan.data.formats.html._MAX_COMPARISONS", 1_000_000)
    assert text_of(written(tmp_path / "a.html", "<p>a</p>" * 5000)).startswith("a")
    assert "end tags within open elements" in refusal(written(tmp_path / "b.html", "<b>" * 5000 + "</i>" * 5000))


def test_lines_of_preformatted_text_may_be_broken_by_an_element(tmp_path: Path) -> None:
    assert text_of(written(tmp_path / "a.html", "<pre>a<br>  b</pre>")) == "a\n  b"
    assert text_of(written(tmp_path / "b.html", "<p>a<pre><br></pre><p>b")) == "a\n\nb"


def test_a_codec_of_python_is_not_the_encoding_of_a_page(tmp_path: Path) -> None:
    assert "not valid UTF-8" in refusal(written(tmp_path / "a.html", b"<meta charset=punycode>caf\xe9"))
    with pytest.raises(UsageError, match="unknown encoding 'punycode'"):
        open_documents([written(tmp_path / "a.txt", "words")], encoding="punycode")
