"""Alerts reach a file once and an address again and again until it answers; none is lost while it does not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memspan.apps.monitor import delivery
from memspan.apps.monitor.delivery import Delivery, LinesFile, Webhook
from memspan.apps.monitor.store import Store
from memspan.errors import UsageError
from tests.servers import Reply, serving


def raise_alerts(store: Store, targets: Sequence[Any], periods: Sequence[int] = (100,)) -> None:
    with store.transaction():
        for period in periods:
            alert = store.add_alert("tea", period, period, 0, {"topic": "tea", "causes": [{"text": "茶 is bad"}]})
            assert alert is not None
            for target in targets:
                store.expect_delivery(alert.number, target.name)


def test_a_file_holds_each_alert_once_in_a_line(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "alerts.jsonl"
    raise_alerts(store, [LinesFile(path)], [100, 200])
    assert Delivery(store, [LinesFile(path)]).finish() == {}
    content = path.read_text("utf-8")
    assert [json.loads(line)["alert"] for line in content.splitlines()] == [1, 2]
    assert "茶 is bad" in content
    with store.transaction():
        store.delivered(2, LinesFile(path).name, None)  # killed between the writing and the note of it
    path.write_text(content + '{"torn', "utf-8")
    raise_alerts(store, [LinesFile(path)], [300])
    assert Delivery(store, [LinesFile(path)]).finish() == {}
    lines = path.read_text("utf-8").splitlines()
    assert lines[2] == '{"torn'
    assert [json.loads(lines[index])["alert"] for index in (0, 1, 3)] == [1, 2, 3]


def test_an_alert_that_does_not_arrive_is_sent_by_the_next_run(store: Store) -> None:
    answers = [500, 503, 429, 200, 404, 204]

    with serving(lambda path, body: Reply("{}", answers.pop(0))) as server:
        hook = Webhook(f"{server.url}/hook", pause=0.001)
        raise_alerts(store, [hook])
        failing = Delivery(store, [hook])
        assert failing.finish() == {hook.name: 1}  # three attempts
        assert failing.problems == {hook.name: "it answered 429"}
        assert Delivery(store, [hook]).finish() == {}
        raise_alerts(store, [hook], [200])
        assert Delivery(store, [hook]).finish() == {hook.name: 1}  # refused: one attempt
        assert Delivery(store, [hook]).finish() == {}
        assert Delivery(store, [hook]).finish() == {}
    assert [body["alert"] for _, _, body in server.requests] == [1, 1, 1, 1, 2, 2]
    assert {path for path, _, _ in server.requests} == {"/v1/hook"}
    assert server.requests[0][1]["idempotency-key"] == "1"
    assert server.requests[0][2]["causes"] == [{"text": "茶 is bad"}]


def test_an_address_that_is_down_holds_nothing_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    class Down:
        name = "down"

        def send(self, content: dict[str, Any]) -> None:
            sent.append(content["alert"])
            raise OSError("connection refused")

    raise_alerts(store, [Down()], range(20))
    assert Delivery(store, [Down()]).finish() == {"down": 20}
    assert len(sent) == 1  # the others are not tried one after the other
    monkeypatch.setattr(delivery, "AGAIN", 0.0)
    again = Delivery(store, [Down()])
    again.step()
    assert again.finish() == {"down": 20}
    assert len(store.alerts()) == 20


@pytest.mark.parametrize("url", ["ftp://host/x", "no address", "", "file:///etc/passwd", "http://"])
def test_an_address_must_be_one(url: str) -> None:
    with pytest.raises(UsageError, match="--webhook must be an address"):
        Webhook(url)


def test_a_file_must_be_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="in a folder that exists"):
        LinesFile(tmp_path / "absent" / "alerts.jsonl")
