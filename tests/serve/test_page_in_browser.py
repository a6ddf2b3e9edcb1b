"""The page of the server in headless Chromium, as people use it; skipped where there is no Chromium."""

import re
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from memspan import LanguageModel
from tests.assistant.conftest import lm  # noqa: F401 - a fixture
from tests.serve.running import ANNA, KEYS, Running, running

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
TEXT = "The dragon of Ulm sleeps in the town hall. It was found by Marta Klein in May. " * 4
TABS = ("ask", "sources", "add", "compare")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> Iterator[Running]:  # noqa: F811
    with running(tmp_path_factory.mktemp("library"), lm, KEYS) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield found
        found.close()


class Opened:
    """The page in a window of its own, and what went wrong in it."""

    def __init__(self, browser: Any, server: Running, **options: Any) -> None:
        self.context = browser.new_context(locale="en-GB", **options)
        self.page = self.context.new_page()
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda message: self.problems.append(message.text))
        self.page.on("request", lambda request: self._check(request.url, server.url))
        self.page.goto(f"{server.url}/ui")

    def _check(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:", "blob:")):
            self.problems.append(url)

    def use_key(self) -> None:
        """Without a key the server refuses the first request, which the console notes: that is meant."""
        self.page.fill("#key-field", ANNA)
        self.page.click("#key-form button")
        self.page.locator("#kept:not(:empty)").wait_for()
        assert all("401" in problem for problem in self.problems)
        self.problems.clear()

    def tab(self, name: str) -> None:
        self.page.click(f"#tab-{name}")


@pytest.fixture(scope="module")
def window(browser: Any, server: Running) -> Iterator[Opened]:
    opened = Opened(browser, server)
    opened.use_key()
    yield opened
    opened.context.close()


def test_a_person_makes_a_memory_reads_asks_sees_the_source_and_forgets(window: Opened) -> None:
    page = window.page
    page.fill("#new-name", "Journey to Ulm")
    page.click("#new-memory button")
    page.get_by_role("button", name="Journey to Ulm").wait_for()

    window.tab("add")
    page.set_input_files("#files", {"name": "ulm.txt", "mimeType": "text/plain", "buffer": TEXT.encode()})
    page.click("#upload button")
    page.get_by_text(re.compile(r"ulm\.txt: read, \d+ tokens")).wait_for()

    window.tab("ask")
    page.fill("#question", "Who found the dragon of Ulm?")
    page.press("#question", "Enter")
    page.locator(".answer[aria-busy=false]").wait_for()
    page.locator("#answers details summary").click()
    page.locator("#answers details button").first.click()
    assert page.locator("#passage mark").inner_text().strip() in TEXT
    page.keyboard.press("Escape")

    window.tab("sources")
    assert page.locator("#sources td").first.inner_text() == "ulm.txt"
    page.fill("#forget-pattern", "ulm*")
    page.click("#forget button")
    page.locator("#forget-names li", has_text="ulm.txt").wait_for()
    page.click("#forget-now")
    page.locator("#no-sources:visible").wait_for()
    assert window.problems == []


def test_an_error_of_the_server_is_shown_in_its_words(window: Opened) -> None:
    page = window.page
    page.fill("#new-name", "a/b")
    page.click("#new-memory button")
    page.locator("#problem", has_text="The name of a memory must be").wait_for()
    window.problems.clear()  # the console notes the status 400


def test_two_people_rate_without_seeing_the_systems(window: Opened) -> None:
    page = window.page
    page.fill("#new-name", "rated")
    page.click("#new-memory button")
    page.get_by_role("button", name="rated").wait_for()
    window.tab("add")
    page.fill("#paste-name", "ulm")
    page.fill("#paste-text", TEXT)
    page.click("#paste button")
    page.get_by_text(re.compile(r"ulm: read, \d+ tokens")).wait_for()
    window.tab("compare")
    page.fill("#pair-question", "Who found the dragon of Ulm?")
    page.select_option("#first-system", "memory/rated")
    page.select_option("#second-system", "model")
    page.click("#new-pair button")
    page.get_by_text("Both answers are written").wait_for()
    for rater in ("ada", "lin"):
        page.fill("#rater", rater)
        page.click("#rater-form button")
        page.locator("#pair:visible").wait_for()
        assert "memory" not in page.locator("#pair").inner_text()
        page.click("[data-choice=left]")
        page.locator("#pair:visible").wait_for(state="detached")
    page.get_by_text("Ratings: 2, people: 2.").wait_for()
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "ratings.jsonl"
    assert window.problems == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_keeps_people_out(browser: Any, server: Running, scheme: str) -> None:
    """No finding of axe, on a narrow screen, in both languages; nothing is wider than the screen."""
    opened = Opened(browser, server, color_scheme=scheme, viewport={"width": 360, "height": 740})
    rules = {"runOnly": ["color-contrast"]} if scheme == "dark" else {}  # all else is the same in both
    options = {"resultTypes": ["violations"], **rules}
    found = [("key", axe.Axe().run(opened.page, options=options).response["violations"])]
    opened.use_key()
    for language, tab in zip(("en", "zh", "en", "zh"), TABS, strict=True):
        opened.page.select_option("#language", language)
        opened.tab(tab)
        found.append((tab, axe.Axe().run(opened.page, options=options).response["violations"]))
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360, tab
    opened.context.close()
    assert [(tab, violation["id"]) for tab, violations in found for violation in violations] == []


def test_tabs_by_the_keyboard(window: Opened) -> None:
    page = window.page
    page.focus("#tab-ask")
    page.click("#tab-ask")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-sources"
    assert page.locator("#panel-sources").is_visible()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.id") == "tab-compare"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('section').id") == "panel-compare"
