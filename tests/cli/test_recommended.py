"""`memspan train --task recommendation` as a user runs it: a table is enough, the future is not trained on."""

import json
from pathlib import Path

import pytest

from memspan.models.saved import open_model
from tests.commands import Run
from tests.tiny import save_tiny_encoder


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """Users who begin one after the other, and have the items from some number on."""
    lines = ["userId,movieId,timestamp"]
    for user in range(80):
        lines += [f"{user},film {(user * 7 + index) % 24:02},{user * 10 + index}" for index in range(8)]
    path = tmp_path / "views.csv"
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_table_is_enough(run: Run, views: Path) -> None:
    done = run("train", "--task", "recommendation", "--data", str(views), "--output", "out")
    assert done.code == 0, done
    assert "user is 'userId', item is 'movieId', time is 'timestamp'" in done.err
    assert "Trained on 448 events" in done.out  # of 64 users, less the last of each
    for name in ("last item alone", "popularity", "item-kNN", "BPR"):
        assert name in done.out
    report = json.loads(Path("out/report.json").read_text("utf-8"))
    assert report["metrics"]["NDCG@10"] > 0.9
    assert report["details"]["users"] == {"trained on": 64, "held out": 16}
    assert report["details"]["baselines"]["popularity"]["metrics"]["NDCG@10"] < 0.8
    predicted = run("predict", "out/best", "film 03; film 04; film 05")
    assert predicted.out.splitlines()[0] == "film 06"


def test_other_models_and_other_tasks_are_as_they_were(run: Run, views: Path) -> None:
    scratch = run(
        *("train", "--task", "recommendation", "--data", str(views), "--mechanism", "gru", "--window", "0"),
        *(
            "--task-settings",
            "rename={userId: user, movieId: item, timestamp: time}",
            "--steps",
            "2",
            "--width",
            "8",
            "--depth",
            "1",
            "--json",
        ),
    )
    assert json.loads(scratch.out)["stopped"] == "steps"
    refused = run("train", "--task", "translation", "--model", "recommender")
    assert refused.code != 0
    assert "A recommender needs histories of items: use the task recommendation" in refused.err


def test_titles_are_read_by_the_encoder_of_the_environment(
    run: Run, views: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, *rows = views.read_text("utf-8").splitlines()
    titled = [f"{row},{row.split(',')[1]} the great" for row in rows]
    views.write_text("\n".join([f"{header},title", *titled]) + "\n", "utf-8")
    monkeypatch.setenv("MEMSPAN_ENCODER", str(save_tiny_encoder(tmp_path / "encoder", size=24)))
    assert run("train", "--task", "recommendation", "--data", str(views), "--output", "out").code == 0
    assert open_model("out/best").config.text_size == 24
