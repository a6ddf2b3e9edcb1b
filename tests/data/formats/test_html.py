"""Web pages give their visible text, in the encoding that they declare."""

from pathlib import Path

import pytest

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
