"""The page shows what is stored, holds nothing from elsewhere, and no text can break out of it."""

import re
from pathlib import Path
from typing import Any

import pytest
from lxml import html

from memspan.apps.monitor import chart, report
from memspan.apps.monitor.alerts import replay
from memspan.apps.monitor.page_words import LANGUAGES, words_of
from memspan.apps.monitor.store import Store
from memspan.errors import UsageError
from tests.apps.monitor.conftest import SECONDS, days, lines
from tests.apps.monitor.test_ingest import take

HOSTILE = [
    '<script>alert("tea")</script> is bad',
    "milk\"><img src=x onerror='alert(1)'> bad",
    "{{ 7 * 7 }} is bad",
    "tea \u202e bad \x00 text",
    "</title></style></svg><b>is bad",
]


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    take(store, lines(tmp_path / "a.jsonl", days(60, risen=range(40, 46))))
    return store


def test_the_page_is_self_contained_and_escapes_every_text(full: Store, tmp_path: Path) -> None:
    hostile = [{"id": text, "time": SECONDS + 86400 * 59, "text": text} for text in HOSTILE]
    take(full, lines(tmp_path / "<i>source.jsonl", [*hostile, {"text": ""}]))
    page = report.render(report.made(full))
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r"(src|srcset|action)\s*=", page.replace("&#34;&gt;&lt;img src=x", ""))
    assert "@import" not in page
    assert "url(" not in page
    tree = html.fromstring(page)
    assert not tree.xpath("//script | //img | //iframe | //link | //i | //*[@onerror]")
    assert all(address.startswith("#") for address in tree.xpath("//@href"))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "{{ 7 * 7 }}" in page
    assert "\x00" not in page
    assert "default-src 'none'" in page


def test_every_link_leads_somewhere_and_every_alert_is_marked(full: Store) -> None:
    tree = html.fromstring(report.render(report.made(full)))
    ids = set(tree.xpath("//@id"))
    assert {address[1:] for address in tree.xpath("//@href")} <= ids
    (mark,) = tree.xpath("//svg/a")
    assert mark.get("href") == "#alert-1"
    assert "tea is bad" in tree.get_element_by_id("alert-1").text_content()
    assert len(tree.xpath("//svg")) == 2
    assert tree.xpath("//svg/@aria-label")[0].startswith("milk")
    assert len(tree.xpath("//details")) >= 2 * 60  # each period can be opened, without a mouse and without a script
    assert "prefers-color-scheme: dark" in html.tostring(tree, encoding="unicode")


def test_the_figures_add_up(full: Store) -> None:
    made = report.made(full, since=SECONDS + 86400 * 30, until=SECONDS + 86400 * 49)
    figures = made.to_dict()
    assert (figures["from"], figures["to"], figures["texts"]) == ("2025-01-31", "2025-02-19", 20 * 40)
    assert [topic["topic"] for topic in figures["topics"]] == ["milk", "tea"]
    tea = figures["topics"][1]
    assert sum(period["negative"] for period in tea["periods"]) == tea["negative"] == 14 * 4 + 6 * 16
    assert len(figures["alerts"]) == 1
    with pytest.raises(UsageError, match="holds no texts of this stretch"):
        report.made(full, since=SECONDS + 86400 * 300)


def test_the_page_speaks_both_languages(full: Store) -> None:
    for name in LANGUAGES:
        words = words_of(name)
        assert words.keys() == words_of("en").keys()
        page = report.render(report.made(full), name)
        assert words["title"] in page
        assert words["causes"] in page
        assert f'<html lang="{name}">' in page
    with pytest.raises(UsageError, match="must be one of en, zh, got 'fr'"):
        words_of("fr")


def test_long_stretches_are_drawn_together(full: Store, tmp_path: Path) -> None:
    take(full, lines(tmp_path / "old.jsonl", [{"id": "old", "time": "1990-05-01", "text": "tea is bad"}]))
    made = report.made(full)
    assert made.together > 1
    for topic in made.topics:
        assert len(topic.chart.points) <= chart.MOST_POINTS
        assert sum(point.texts for point in topic.chart.points) == topic.texts
    assert len(report.render(made)) < 2_000_000


def test_a_chart_stays_within_its_frame(full: Store) -> None:
    for topic in report.made(full).topics:
        drawn = topic.chart
        pairs = [pair.split(",") for line in (*drawn.lines, *drawn.means) for pair in line.split()]
        for x, y in [*((float(x), float(y)) for x, y in pairs), *drawn.marks.values()]:
            assert chart.LEFT <= x <= chart.WIDTH
            assert 0 <= y <= chart.HEIGHT - chart.BOTTOM


def test_a_replay_finds_what_is_stored_with_the_alert_that_was_raised(full: Store) -> None:
    (rise,) = replay(full)
    expected: dict[str, Any] = {"topic": "tea", "from": "2025-02-10", "to": "2025-02-15", "alert": 1, "negative": 96}
    assert {name: rise[name] for name in expected} == expected
