"""A monitor whose classifiers are trained once, over words, and one whose classifiers are rules."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

for package in ("river", "ruptures", "feedparser", "watchfiles"):
    pytest.importorskip(package)

from memspan.apps.monitor import heads, sample, setup  # noqa: E402 - only where the packages are there
from memspan.apps.monitor.entries import Opinion  # noqa: E402
from memspan.apps.monitor.store import MonitorSettings, Store  # noqa: E402

SECONDS = 1_735_689_600  # 1 January 2025


class Rules:
    """Classifiers in the place of trained ones: the topic is the first word; a text with "bad" is negative."""

    def opinions(self, texts: Sequence[str]) -> list[Opinion]:
        return [Opinion(text.split()[0], 0.9, "negative" if "bad" in text else "positive", 0.8) for text in texts]


@pytest.fixture(scope="session")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a monitor that was trained on the sample, without texts."""
    folder = tmp_path_factory.mktemp("monitor")
    sample.write(folder / "demo", 400, 240, seed=0, language="en")
    runs = heads.prepare(folder / "bank", folder / "demo" / sample.LABELLED, {}, ["words"], str(tiny_model))
    heads.train(runs)
    settings = setup.settings_for(folder / "bank", runs["sentiment"][1].class_names(), None, "day", None)
    setup.create(folder / "bank", settings)
    return folder / "bank"


@pytest.fixture
def bank(trained: Path, tmp_path: Path) -> Path:
    """A copy of the trained monitor, beside the stream of the sample."""
    shutil.copytree(trained, tmp_path / "bank")
    shutil.copy(trained.parent / "demo" / sample.STREAM, tmp_path)
    return tmp_path / "bank"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    (tmp_path / "shop").mkdir()
    return Store.create(tmp_path / "shop", MonitorSettings("day", "negative"))


def lines(path: Path, records: Sequence[dict[str, Any]]) -> Path:
    """Append records to a file of JSON lines."""
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return path


def days(
    number: int, risen: Sequence[int] = (), topics: Sequence[str] = ("tea", "milk"), each: int = 20
) -> list[dict[str, Any]]:
    """Records of a number of days: a fifth of the texts of a topic is negative, on the days `risen` of the first topic four."""
    records = []
    for day in range(number):
        for topic in topics:
            share = 4 if day in risen and topic == topics[0] else 1
            records += [
                {
                    "id": f"{day}-{topic}-{index}",
                    "time": SECONDS + 86400 * day + 60 * index,
                    "text": f"{topic} is {'bad' if index % 5 < share else 'good'} today, number {index} of day {day}",
                }
                for index in range(each)
            ]
    return records
