"""Every text is stored once: whatever kills the process, however files grow, and whichever way a text arrives twice."""

import io
import json
import os
import random
import signal
import sqlite3
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memspan.apps.monitor import ingest as ingestion
from memspan.apps.monitor.alerts import Watcher
from memspan.apps.monitor.entries import Fields
from memspan.apps.monitor.ingest import Outcome, ingest
from memspan.apps.monitor.retention import Forgetting
from memspan.apps.monitor.sources import Sources
from memspan.apps.monitor.store import Alert, MonitorSettings, Store, writing
from memspan.errors import MemspanError, UsageError
from tests.apps.monitor.conftest import SECONDS, Rules, days, lines

HEADS: Any = Rules()


def take(
    store: Store, *paths: Path | str, stdin: bytes = b"", between: Callable[[], Any] | None = None
) -> tuple[Outcome, list[Alert]]:
    alerts: list[Alert] = []
    sources = Sources([str(path) for path in paths], Fields(), io.BytesIO(stdin))
    return ingest(store, HEADS, sources, Watcher(), once=True, on_alert=alerts.append, between=between), alerts


def stored(store: Store) -> Counter[str]:
    with sqlite3.connect(store.path) as database:
        return Counter(text for (text,) in database.execute("SELECT text FROM texts"))


def test_ten_kills_lose_and_double_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child is killed at random moments, and another goes on; in the end all is as after a run without any."""
    monkeypatch.setattr(ingestion, "BATCH", 16)
    monkeypatch.setattr("memspan.apps.monitor.sources.LINES", 16)
    records = days(40, risen=range(30, 36))
    path = lines(tmp_path / "stream.jsonl", records)
    for name in ("killed", "whole"):
        (tmp_path / name).mkdir()
        Store.create(tmp_path / name, MonitorSettings("day", "negative")).close()
    draw, before = random.Random(3), 0
    for _ in range(10):
        reading, writing_end = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # a fork of a process with threads
            child = os.fork()
        if child == 0:
            try:
                with Store(tmp_path / "killed") as store:
                    take(store, path, between=partial(os.write, writing_end, b"."))
            finally:
                os._exit(0)
        os.close(writing_end)
        for _ in range(draw.randint(0, 8)):
            os.read(reading, 1)
        time.sleep(draw.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        os.close(reading)
        assert os.WIFSIGNALED(status)
        with Store(tmp_path / "killed") as store:
            (position,) = store.positions().values() or [None]
            assert store.texts >= before  # what was written stays
            assert store.texts == (0 if position is None else position.lines)  # with the position behind it
            before = store.texts
    assert 0 < before < len(records)
    for name in ("killed", "whole"):
        with Store(tmp_path / name) as store:
            take(store, path)
            assert stored(store) == Counter(record["text"] for record in records)
            counts = store.counts()
            assert sum(count.texts for series in counts.values() for count in series) == len(records)
            alerts = [(alert.topic, alert.first, alert.last) for alert in store.alerts()]
            assert len(alerts) == 1
            if name == "killed":
                expected = counts, alerts
    assert (counts, alerts) == expected


def test_a_file_that_grows_is_read_on_from_where_it_was(store: Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", days(2))
    assert take(store, path)[0].stored == 80
    assert take(store, path)[0].to_dict()["known"] == 0  # nothing is read twice
    with path.open("a") as file:
        file.write('{"id": "x", "text": "tea is bad, and this is not wr')
    assert take(store, path)[0].rejected == {}  # it is being written
    with path.open("a") as file:
        file.write('itten yet"}')
    outcome, _ = take(store, path)  # a whole object at the end of a file
    assert outcome.stored == 1
    lines(path, [{"id": "y", "text": "milk is good"}])
    assert take(store, path)[0].stored == 1
    assert store.texts == 82


def test_a_file_that_was_replaced_is_read_from_its_beginning(store: Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", days(1))
    take(store, path)
    path.unlink()
    lines(path, [{"id": "new", "text": "tea is bad"}, *days(2)])
    outcome, _ = take(store, path)
    assert (outcome.stored, outcome.known) == (41, 40)


def test_a_text_is_known_again_by_its_id_or_by_its_text_and_time(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    record = {"id": 7, "text": "tea is bad", "time": "2025-01-01T10:00:00Z"}
    lines(tmp_path / "in" / "a.jsonl", [record, record, {**record, "id": 8}])
    lines(tmp_path / "in" / "b.jsonl", [record])  # of the same folder
    outcome, _ = take(store, tmp_path / "in")
    assert (outcome.stored, outcome.known) == (2, 2)
    without = {"text": "milk is good", "time": "2025-01-01"}
    lines(
        tmp_path / "c.jsonl", [without, without, {**without, "time": "2025-01-02"}, {**without, "text": "milk is bad"}]
    )
    outcome, _ = take(store, tmp_path / "c.jsonl")
    assert (outcome.stored, outcome.known) == (3, 1)
    lines(tmp_path / "d.jsonl", [record])  # another source counts for itself
    assert take(store, tmp_path / "d.jsonl")[0].stored == 1


BAD = {
    b"no json": "is no JSON object",
    b"[1]": "is no JSON object",
    b'{"id": 1}': "has no text",
    b'{"text": "  "}': "has no text",
    b'{"text": "tea is bad", "time": "soon"}': "has a time that is no date",
    b'{"text": "tea is bad", "time": 32503680000}': "has a time in the future",
    b'{"text": "tea is bad", "time": "1960-01-01"}': "has a time before 1970",
    b'{"text": "tea \xff"}': "is not UTF-8 text",
    b'{"text": "tea \\ud800"}': "is not UTF-8 text",
    b"[" * 100_000: "is no JSON object",
    b'{"text": "' + b"a" * 100_001 + b'"}': "has a text of more than 100,000 characters",
    b"a" * (4 * 1024 * 1024 + 5): "is longer than 4 MiB",
}


def test_lines_that_hold_no_text_are_counted_and_named(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "tea is good"}\n\n' + b"\n".join(BAD) + b'\n{"text": "milk is good"}\n')
    outcome, _ = take(store, path)
    assert outcome.stored == 2
    assert outcome.rejected == Counter(BAD.values())
    assert outcome.first_rejected[0] == (str(path), 3, "is no JSON object")
    assert {(number, reason) for _, number, reason in store.rejected()} == set(enumerate(BAD.values(), 3))


def test_times_are_read_as_numbers_and_as_dates(store: Store, tmp_path: Path) -> None:
    moments = [
        SECONDS,
        str(SECONDS),
        SECONDS * 1000,
        "2025-01-01T00:00:00Z",
        "2025-01-01T01:00:00+01:00",
        "1 January 2025",
        "2025年1月1日",
    ]
    lines(tmp_path / "a.jsonl", [{"id": str(n), "text": "tea is bad", "time": when} for n, when in enumerate(moments)])
    take(store, tmp_path / "a.jsonl")
    ((count,),) = store.counts().values()
    assert count == (SECONDS // 86400, 7, 7)


def test_fields_are_guessed_or_named(store: Store, tmp_path: Path) -> None:
    lines(
        tmp_path / "a.jsonl",
        [{"编号": "1", "内容": "茶 bad", "时间": "2025-01-01", "作者": "a very long name of somebody"}],
    )
    assert take(store, tmp_path / "a.jsonl")[0].stored == 1
    assert stored(store) == {"茶 bad": 1}
    lines(tmp_path / "b.jsonl", [{"body": "tea is good", "said": "milk is good", "at": "2025-03-01"}])
    sources = Sources([str(tmp_path / "b.jsonl")], Fields("said", "at", None))
    ingest(store, HEADS, sources, Watcher(), once=True, on_alert=lambda alert: None)
    assert "milk is good" in stored(store)
    assert store.newest() == SECONDS // 86400 + 59


def test_standard_input_and_plain_lines(store: Store, tmp_path: Path) -> None:
    outcome, _ = take(store, "-", stdin=b'{"text": "tea is bad"}\nmilk is good\n\nlast line is bad')
    assert outcome.stored == 3
    (tmp_path / "a.txt").write_text("wine is good\nwine is bad\n", "utf-8")
    assert take(store, tmp_path / "a.txt")[0].stored == 2
    assert store.counts().keys() == {"tea", "milk", "last", "wine"}


RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title>
<item><guid>1</guid><title>tea prices</title><description>&lt;p&gt;are &lt;b&gt;bad&lt;/b&gt;&lt;script&gt;alert(1)&lt;/script&gt;</description>
<pubDate>Wed, 01 Jan 2025 10:00:00 GMT</pubDate></item>%s</channel></rss>"""
ATOM = """<?xml version="1.0" encoding="utf-8"?><feed xmlns="http://www.w3.org/2005/Atom"><title>News</title>
<entry><id>urn:1</id><title>milk 涨价</title><summary>bad &amp; good</summary><updated>2025-01-02T10:00:00Z</updated></entry></feed>"""


def test_feeds_give_each_entry_once(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "feeds"
    folder.mkdir()
    (folder / "a.rss").write_text(RSS % "", "utf-8")
    (folder / "b.atom").write_text(ATOM, "utf-8")
    (folder / "readme.md").write_text("no source", "utf-8")
    assert take(store, folder)[0].stored == 2
    assert stored(store) == {"tea prices\nare bad": 1, "milk 涨价\nbad & good": 1}
    assert [count.period for series in store.counts().values() for count in series] == [
        SECONDS // 86400 + 1,
        SECONDS // 86400,
    ]
    assert take(store, folder)[0].known == 0  # files that are as they were
    (folder / "a.rss").write_text(RSS % "<item><guid>2</guid><title>wine is good</title></item>", "utf-8")
    outcome, _ = take(store, folder)
    assert (outcome.stored, outcome.known) == (1, 1)
    bomb = '<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><rss><channel><item><title>&b;</title></item></channel></rss>'
    (folder / "c.xml").write_text(bomb, "utf-8")
    (folder / "d.xml").write_text("<html><body>no feed</body></html>", "utf-8")
    outcome, _ = take(store, folder)
    assert outcome.rejected["is no feed that can be read"] >= 1
    assert not any("aaaa" in text for text in stored(store))


def test_a_rise_is_alerted_with_the_texts_that_caused_it(store: Store, tmp_path: Path) -> None:
    _, alerts = take(store, lines(tmp_path / "a.jsonl", days(40, risen=range(30, 36))))
    (alert,) = alerts
    content = alert.content
    assert (alert.topic, content["from"]) == ("tea", "2025-01-31")
    assert content["to"] in ("2025-01-31", "2025-02-01")
    assert content["share"] == 0.8
    assert content["expected"] == pytest.approx(0.2, abs=0.02)
    assert len(content["causes"]) == 5
    assert all(
        "tea is bad" in cause["text"] and cause["id"].startswith(("30-tea", "31-tea")) for cause in content["causes"]
    )
    assert store.alerts() == alerts


def test_alerts_do_not_depend_on_where_a_stream_is_cut(tmp_path: Path) -> None:
    records, found = days(45, risen=range(20, 25)), []
    for cuts in ([1800], [700, 1100], [100] * 18):
        folder = tmp_path / str(len(cuts))
        folder.mkdir()
        with Store.create(folder, MonitorSettings("day", "negative")) as store:
            first = 0
            for number in cuts:
                take(store, lines(folder / "a.jsonl", records[first : first + number]))
                first += number
            found.append([alert.content | {"raised": "", "causes": []} for alert in store.alerts()])
            assert store.texts == 1800
    assert len(found[0]) == 1
    assert found[0] == found[1] == found[2]


def test_what_is_forgotten_stays_forgotten(store: Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", days(40, risen=range(20, 25)))
    take(store, path)
    assert len(store.alerts()) == 1
    assert store.forget(SECONDS // 86400 + 30) == 30 * 40
    assert store.texts == 400
    assert store.alerts() == []
    assert all(count.period >= SECONDS // 86400 + 30 for series in store.counts().values() for count in series)
    content = b"".join(
        file.read_bytes() for file in store.path.parent.iterdir() if file.name.startswith("monitor.sqlite")
    )
    assert b"of day 22" not in content  # not in free pages either
    assert b"of day 32" in content
    path.rename(tmp_path / "b.jsonl")  # read as a new file
    outcome, _ = take(store, tmp_path / "b.jsonl")
    assert outcome.forgotten == 1200
    assert store.texts == 800  # ids are unique within a source


def test_a_monitor_forgets_by_itself_what_it_does_not_keep(tmp_path: Path) -> None:
    with Store.create(tmp_path, MonitorSettings("day", "negative", keep=30)) as store:
        recent = [
            {"id": str(day), "text": f"tea is day {day}", "time": time.time() - 86400 * day} for day in (0, 20, 40)
        ]
        assert take(store, lines(tmp_path / "a.jsonl", recent))[0].stored == 3
        forgetting = Forgetting(store)
        forgetting.step()
        assert set(stored(store)) == {"tea is day 0", "tea is day 20"}
        with store.transaction():
            store.set("forgotten", 0)
        forgetting.step()
        assert store.forgotten == 0  # not every time


def test_one_writer_at_a_time(store: Store) -> None:
    with (
        writing(store.path.parent),
        pytest.raises(MemspanError, match="Another process is writing"),
        writing(store.path.parent),
    ):
        pass


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("absent.jsonl", "no file or folder"),
        ("a.docx", "must be a file of"),
        ("https://example.org/feed", "Nothing is fetched"),
    ],
)
def test_sources_that_are_none(path: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.docx").write_text("x")
    with pytest.raises(UsageError, match=sentence):
        Sources([path], Fields())


def test_a_reader_that_fails_ends_the_run_with_its_error(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("memspan.apps.monitor.sources.of_line", broken)
    with pytest.raises(RuntimeError, match="broken"):
        take(store, lines(tmp_path / "a.jsonl", days(1)))


def test_files_are_read_as_they_change_until_ctrl_c(store: Store, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", days(1))

    def between() -> None:
        if store.texts == 40:
            lines(path, days(2)[40:])
        if store.texts >= 80:
            raise KeyboardInterrupt

    outcome, sources = Outcome(), Sources([str(tmp_path)], Fields())
    with pytest.raises(KeyboardInterrupt):
        ingest(store, HEADS, sources, Watcher(), once=False, on_alert=lambda _: None, between=between, outcome=outcome)
    assert outcome.stored == store.texts == 80


def test_the_reader_waits_for_the_classifiers(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the stream: what is read ahead is bounded."""
    monkeypatch.setattr(ingestion, "BATCH", 256)
    read = 0
    worst = 0

    class Slow(Rules):
        def opinions(self, texts: Any) -> Any:
            nonlocal worst
            time.sleep(0.02)
            worst = max(worst, read - store.texts)
            return super().opinions(texts)

    class Counting(Sources):
        def once(self, positions: Any) -> Any:
            nonlocal read
            for chunk in super().once(positions):
                read += len(chunk.entries)
                yield chunk

    lines(tmp_path / "a.jsonl", days(200))
    heads: Any = Slow()
    ingest(store, heads, Counting([str(tmp_path / "a.jsonl")], Fields()), Watcher(), once=True, on_alert=lambda _: None)
    assert store.texts == 8000
    assert worst <= 256 * (ingestion.AHEAD + 3)


def test_json_of_an_outcome() -> None:
    outcome = Outcome(stored=10, seconds=2.0, rejected=Counter({"has no text": 2}))
    assert json.loads(json.dumps(outcome.to_dict()))["texts_per_second"] == 5
    assert outcome.to_dict()["rejected"] == 2
