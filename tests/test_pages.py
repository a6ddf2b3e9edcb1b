"""Every HTML page that memspan writes, in a real browser: it works alone, for everyone, on light, dark and small screens.

`make browser` installs what these tests need, but for Chromium itself: `apt-get install chromium`.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from memspan.assistant.loading import load_model
from memspan.explain import explain, explain_label, explain_recall, write
from memspan.training.config import TrainConfig
from memspan.training.loop import train
from tests.paths import ROOT
from tests.tiny import logbook

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
if CHROMIUM is None:
    pytest.skip("needs Chromium (apt-get install chromium)", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api", reason="needs the dependency group `browser`")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the dependency group `browser`")

PAGES = (
    "explain-checkpoint",
    "explain-gates",
    "explain-label",
    "explain-memory",
    "monitor-en",
    "monitor-zh",
    "notebook",
)
TEMPLATES = {"explain/page.html", "apps/monitor/report.html"}
NARROW = {"width": 360, "height": 740}  # pixels: a small phone
LONG = "https://example.org/" + "a-very-long-name-without-a-break" * 8


@dataclass
class Opened:
    """A page in the browser, and what it did there."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with all of PAGES."""
    folder = tmp_path_factory.mktemp("pages")
    _write_explanations(folder, tiny_model)
    _write_reports(folder)
    return folder


def _write_explanations(folder: Path, tiny_model: Path) -> None:
    rows = [("The soup was cold and the bread stale", "bad"), ("The soup was hot and the bread fresh", "good")] * 15
    data = folder / "food.csv"
    lines = "".join(f"{text} on day {number}.,{label}\n" for number, (text, label) in enumerate(rows))
    data.write_text(f"text,label\n{lines}", "utf-8")
    layer = [{"name": "sink_window", "sinks": 0, "window": 8, "block": 8, "heads": 2}, {"name": "lstm"}]
    small = {"segments": 4, "layers": [layer], "width": 16, "batch_size": 8, "steps": 3}
    settings = {"task_settings": {"segment": 8, "vocabulary": 300}, **small, "output": str(folder / "small")}
    train(TrainConfig.of(task="classification", data=[str(data)], **settings))
    text = f"The soup was cold. {LONG} The bread was fresh, 面包很新鲜。"
    write(explain(folder / "small" / "best", text).page(), folder / "explain-checkpoint.html")
    write(explain(folder / "small" / "best", text, method="gates").page(), folder / "explain-gates.html")
    features = {"features": ["words"], "model": str(tiny_model), "precision": "fp32", "output": str(folder / "words")}
    train(TrainConfig.of(task="classification", data=[str(data)], **features))
    write(explain_label(str(folder / "words" / "best"), text).page(), folder / "explain-label.html")
    lm = load_model(str(tiny_model))
    memory = lm.read(f"{LONG}\n\n{logbook()[:3000]}", source="log.txt")
    write(explain_recall(lm, memory, "Where was the captain?").page(), folder / "explain-memory.html")
    parts = "".join(value._repr_html_() for value in (memory.view(), lm.ask(memory, "Where was the captain?")))
    head = '<!DOCTYPE html><html lang="en"><title>Notebook</title><meta name="color-scheme" content="light dark">'
    (folder / "notebook.html").write_text(f"{head}<main><h1>Notebook</h1>{parts}</main>", "utf-8")


def _write_reports(folder: Path) -> None:
    from memspan.apps.monitor import report
    from memspan.apps.monitor.store import MonitorSettings, Store
    from tests.apps.monitor.conftest import SECONDS, days, lines
    from tests.apps.monitor.test_ingest import take

    (folder / "shop").mkdir()
    long = {"id": "long", "time": SECONDS, "text": f"tea {LONG} is bad, 茶很难喝"}
    with Store.create(folder / "shop", MonitorSettings("day", "negative")) as store:
        few = days(30, risen=range(22, 28), each=5)  # axe looks at every text of every day, and few raise no alert
        take(store, lines(folder / "texts.jsonl", [long, {"text": ""}, *few]))
        for language in ("en", "zh"):
            (folder / f"monitor-{language}.html").write_text(report.render(report.made(store), language), "utf-8")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    flags = [
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
        *("--disable-background-networking", "--disable-component-update"),
    ]
    with playwright.sync_playwright() as started:
        profile = tmp_path_factory.mktemp("profile")
        context = started.chromium.launch_persistent_context(
            profile, executable_path=CHROMIUM, headless=True, args=flags, offline=True
        )
        yield context
        context.close()


@pytest.fixture
def opened(browser: Any, pages: Path, request: pytest.FixtureRequest) -> Iterator[Opened]:
    """The page that the test names, opened, and what it wrote to the console and asked for since."""
    name, scheme, size = request.param
    found = Opened(browser.new_page())
    found.page.on("console", lambda message: found.messages.append(message.text))
    found.page.on("pageerror", lambda error: found.messages.append(str(error)))
    found.page.on("request", lambda asked: found.requests.append(asked.url))
    found.page.set_viewport_size(size)
    found.page.emulate_media(color_scheme=scheme)
    found.page.goto((pages / f"{name}.html").as_uri())
    yield found
    found.page.close()


def _open_all(page: Any) -> None:
    """Show what is folded."""
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")


WIDE = {"width": 1280, "height": 800}
EACH = pytest.mark.parametrize("opened", [(name, "light", WIDE) for name in PAGES], indirect=True, ids=PAGES)


def test_every_template_is_opened_here() -> None:
    found = {path.relative_to(ROOT / "memspan").as_posix() for path in (ROOT / "memspan").rglob("*.html")}
    served = {"serve/page/page.html", "apps/support/page/page.html"}  # opened by tests/serve and tests/apps/support
    assert found - served == TEMPLATES


@EACH
def test_a_page_asks_for_nothing_and_complains_of_nothing(opened: Opened) -> None:
    _open_all(opened.page)
    assert opened.messages == []
    assert all(address.startswith("file://") for address in opened.requests)
    assert len(opened.requests) == 1


@pytest.mark.parametrize(
    "opened",
    [(name, scheme, WIDE) for name in PAGES for scheme in ("light", "dark")],
    indirect=True,
    ids=[f"{name}-{scheme}" for name in PAGES for scheme in ("light", "dark")],
)
def test_axe_finds_nothing_serious(opened: Opened, request: pytest.FixtureRequest) -> None:
    _open_all(opened.page)
    dark = request.node.callspec.params["opened"][1] == "dark"
    assert _serious(opened.page, ["color-contrast"] if dark else None) == []  # the rest is the same in both


def _serious(page: Any, rules: list[str] | None = None) -> list[str]:
    """What axe-core finds in a page that keeps people from using it: by these of its rules, or by all."""
    options = {"resultTypes": ["violations"], **({} if rules is None else {"runOnly": rules})}
    found = axe.Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {rule['help']}: {rule['nodes'][0]['html'][:200]} {rule['nodes'][0]['failureSummary']}"
        for rule in found
        if rule["impact"] in ("serious", "critical")
    ]


@EACH
def test_all_that_can_be_used_is_reached_by_the_keyboard_in_order_and_shows_that_it_is(opened: Opened) -> None:
    usable = "a[href], summary, button, input, select, textarea, [tabindex='0']"
    page, reached = opened.page, []
    count = page.evaluate(f"[...document.querySelectorAll(`{usable}`)].filter(each => each.checkVisibility()).length")
    for _ in range(count):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => { const at = document.activeElement, all = [...document.querySelectorAll('*')];
                return [all.indexOf(at), at.tagName, getComputedStyle(at).outlineStyle]; }"""
            )
        )
    places = [place for place, tag, _ in reached if tag not in ("BODY", "HTML")]
    assert len(set(places)) == count
    assert places == sorted(places)
    assert all(outline != "none" for _, _, outline in reached)


@pytest.mark.parametrize("opened", [(name, "light", NARROW) for name in PAGES], indirect=True, ids=PAGES)
def test_a_small_screen_needs_no_sideways_scrolling(opened: Opened) -> None:
    _open_all(opened.page)
    width, cut = opened.page.evaluate(
        """() => [document.documentElement.scrollWidth,
        [...document.querySelectorAll('main *')].filter(each => each.getBoundingClientRect().right > innerWidth + 1
          && !each.closest('.wide')).map(each => each.outerHTML.slice(0, 120))]"""
    )
    assert cut[:3] == []
    assert width <= NARROW["width"]
    assert _serious(opened.page) == []


@pytest.mark.parametrize("opened", [("monitor-en", "light", WIDE)], indirect=True)
def test_a_mark_of_the_chart_leads_to_its_alert_by_the_keyboard(opened: Opened) -> None:
    opened.page.focus("svg a")
    opened.page.keyboard.press("Enter")
    assert opened.page.evaluate("document.activeElement.id") == "alert-1"
