"""`memspan train` for several labels of a text, and for a number: guessed columns, the summary, predictions for a file."""

import csv
import json
from pathlib import Path

import pytest

from memspan.tasks import build
from tests.commands import Run

TOPICS = {
    "orders": ["Where is my parcel?", "I have not received the order.", "When is the delivery?"],
    "refunds": ["I want my money back.", "Please refund me.", "The refund is missing."],
    "praise": ["Thank you, all was lovely.", "Great work!", "I am very happy."],
}


def write(path: Path, head: list[str], rows: list[list[object]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return str(path)


@pytest.fixture
def tagged(tmp_path: Path) -> str:
    names, rows = list(TOPICS), []
    for number in range(120):
        held = [names[number % 3], names[number // 3 % 3]][: 1 + number % 2]
        text = " ".join(TOPICS[name][number % 7 % 3] for name in dict.fromkeys(held))
        rows.append([number, text, "; ".join(dict.fromkeys(held))])
    return write(tmp_path / "tagged.csv", ["id", "message", "topics"], rows)


def train(task: str, data: str, model: Path, *more: str) -> list[str]:
    return ["train", "--task", task, "--features", "words", "--data", data, "--model", str(model), *more]


def test_a_text_may_have_several_labels(run: Run, tagged: str, tiny_model: Path, tmp_path: Path) -> None:
    done = run(*train("tagging", tagged, tiny_model, "--output", "out"))
    assert done.code == 0, done
    assert "text is 'message', label is 'topics'" in done.err
    assert "all labels right" in done.out
    assert "TF-IDF + linear" in done.out
    report = json.loads(Path("out/report.json").read_text("utf-8"))
    assert report["metrics"]["macro F1"] > 0.9
    low, high = report["details"]["intervals"]["macro F1"]
    assert low <= report["metrics"]["macro F1"] <= high
    texts = [["Please refund me. Great work!"], ["Where is my parcel?"]]
    new = write(tmp_path / "new.csv", ["text"], texts)
    assert run("predict", "out/best", "--file", new, "--output", "found.csv").code == 0
    with Path("found.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [set(row["prediction"].split("; ")) for row in found] == [{"praise", "refunds"}, {"orders"}]
    assert all(0.1 < float(row["probability"]) <= 1 for row in found)


def test_the_balance_is_an_option(run: Run, tagged: str, tiny_model: Path) -> None:
    for balance in ("true", "false"):
        done = run(*train("tagging", tagged, tiny_model, "--task-settings", f"balance={balance}", "--json"))
        assert json.loads(done.out)["details"]["settings"]["balanced"] is (balance == "true")


def test_a_number_is_predicted(run: Run, tiny_model: Path, tmp_path: Path) -> None:
    words = ["awful", "poor", "fair", "good", "great"]
    rows: list[list[object]] = [
        [900 + n, f"The room was {words[n % 5]}, the food {words[n % 5]}.", 1 + n % 5] for n in range(100)
    ]
    data = write(tmp_path / "reviews.csv", ["number", "comment", "stars"], [*rows, [1, "No stars.", "none"]])
    done = run(*train("regression", data, tiny_model, "--output", "out"))
    assert done.code == 0, done
    assert "text is 'comment', label is 'stars'" in done.err
    assert "label that is no number, the first is row 102" in done.err
    assert "Furthest off:" in done.out
    report = json.loads(Path("out/report.json").read_text("utf-8"))
    assert report["metrics"]["Spearman"] > 0.9
    assert report["metrics"]["MAE"] < 0.5
    furthest = [wrong["text"] for wrong in report["details"]["wrong"]]
    assert len(set(furthest)) == len(furthest) > 1  # each once, however often it occurs
    low, high = (float(line) for line in run("predict", "out/best", "An awful room.", "A great room.").out.split())
    assert 1 <= low < high <= 5


def test_what_is_fitted_on_features_is_not_trained_otherwise(run: Run, tiny_model: Path) -> None:
    refused = run("train", "--task", "tagging", "--model", str(tiny_model), "--lora", "2")
    assert "is fitted on features" in refused.sentence
    refused = run("train", "--task", "regression", "--from-scratch")
    assert "needs a pretrained model" in refused.sentence


@pytest.mark.parametrize("task", ["tagging", "regression"])
def test_the_samples_can_be_learned(run: Run, task: str, tiny_model: Path) -> None:
    done = run("train", "--task", task, "--features", "words", "--model", str(tiny_model), "--json")
    report = json.loads(done.out)
    metric = report["details"]["metric"]
    assert report["metrics"][metric] > 0.8


def test_the_metrics_of_labels_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    task = build("tagging", vocabulary=300)
    gold, predicted = [["a"], ["a", "b"], ["c"], ["b"]], ["a; b", "a; b", "a", ""]
    found = task.compute_metrics([{"text": "x", "label": labels} for labels in gold], predicted)  # type: ignore[attr-defined]
    encoder = MultiLabelBinarizer().fit(gold)
    given = encoder.transform([text.split("; ") if text else [] for text in predicted])
    for average in ("macro", "micro"):
        expected = f1_score(encoder.transform(gold), given, average=average, zero_division=0.0)
        assert found[f"{average} F1"] == pytest.approx(expected)
    assert found["all labels right"] == 0.25
