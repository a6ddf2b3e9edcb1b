"""The page's files: what they may reach, and that both languages have all words. tests/browser opens the page itself."""

import json
import re
from collections.abc import Iterator

import httpx2
import pytest

from memspan import LanguageModel
from memspan.serve.ui import FILES
from tests.assistant.conftest import lm  # noqa: F401 - a fixture
from tests.serve.running import KEYS, running


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[httpx2.Client]:  # noqa: F811
    with running(tmp_path_factory.mktemp("library"), lm, KEYS) as server, server.http() as http:
        yield http


def test_the_files_need_no_key_and_nothing_else_is_there(client: httpx2.Client) -> None:
    assert client.get("/ui").status_code == 200
    for name in FILES:
        assert client.get(f"/ui/{name}").status_code == 200
    for path in ("/ui/ratings.py", "/ui/..%2fui.py", "/ui/%2e%2e/ui.py", "/ui/x/y"):
        assert client.get(path).status_code in (401, 404)
    assert client.get("/v1/memories").status_code == 401


def test_no_address_but_its_own(client: httpx2.Client) -> None:
    policy = client.get("/ui").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
    for name, file in FILES.items():
        text = file.read_text("utf-8")
        assert not re.search(r"https?://|//cdn|@import|innerHTML|insertAdjacentHTML|\beval\b", text), name
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", text), name


def test_both_languages_have_all_words() -> None:
    used = {
        word
        for file in FILES.values()
        for found in re.findall(r'data-word="(\w+)"|\bword\("(\w+)"|\bsay\("(\w+)"', file.read_text("utf-8"))
        for word in found
        if word
    }
    defined = re.findall(r"^  (en|zh): \{(.*?)^  \},", FILES["words.js"].read_text("utf-8"), re.DOTALL | re.MULTILINE)
    assert [language for language, _ in defined] == ["en", "zh"]
    texts = [dict(re.findall(r'(\w+): "((?:[^"\\]|\\.)*)"', words)) for _, words in defined]
    assert set(texts[0]) == set(texts[1]) == used
    for word in used:
        assert set(re.findall(r"\{\w+\}", texts[0][word])) == set(re.findall(r"\{\w+\}", texts[1][word])), word


def test_the_words_in_the_page_are_the_english_ones() -> None:
    words = FILES["words.js"].read_text("utf-8").split("zh: {")[0]
    for word, text in re.findall(r'data-word="(\w+)"[^>]*>([^<]+)<', FILES["page.html"].read_text("utf-8")):
        assert json.dumps(text) in words, word
