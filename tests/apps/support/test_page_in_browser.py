"""The page for the persons who answer, in headless Chromium; skipped where there is no Chromium."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import memspan
from memspan.serve.keys import Keys
from tests.apps.support.test_server import GNOMES, MIA, client, running

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
]


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_person_answers_with_the_keyboard(shop: Path, lm: memspan.LanguageModel) -> None:
    problems: list[str] = []
    with running(shop, lm, Keys({MIA: "mia"})) as url, sync_api.sync_playwright() as playwright:
        with client(url, MIA) as http:
            message = {"customer": "<b>ada</b>", "message": GNOMES}
            assert http.post("/messages", json=message).json()["hand_over"] == 1
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_context(locale="en-GB", viewport={"width": 360, "height": 740}).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request", lambda request: None if request.url.startswith((url, "data:")) else problems.append(request.url)
        )
        page.goto(f"{url}/ui")
        page.fill("#key-field", MIA)
        page.press("#key-field", "Enter")
        page.get_by_text("<b>ada</b>").first.wait_for()  # as text, not as markup
        violations: Any = axe.Axe().run(page).response["violations"]
        page.get_by_label("Answer", exact=True).focus()
        page.keyboard.type("No, hedgehogs like gnomes.")
        page.keyboard.press("Tab")  # the intent
        page.keyboard.press("Tab")  # the button
        page.keyboard.press("Enter")
        page.get_by_text("sees the answer with the next reply").wait_for()
        page.select_option("#language", "zh")
        page.check("#answered")
        page.get_by_text("已回答：No, hedgehogs like gnomes.").wait_for()
        width = page.evaluate("document.documentElement.scrollWidth")
        browser.close()
    assert violations == []
    assert problems == []
    assert width <= 360
