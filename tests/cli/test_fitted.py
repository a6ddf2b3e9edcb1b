"""`memspan train` of a classifier over features, as a user runs it: guessed columns, the summary, predictions."""

import csv
import json
from pathlib import Path

import pytest

from memspan.pretrained import segment_memory
from tests.commands import Run

MAILS = {
    "orders": ["Where is my parcel {}?", "I have not received order {}.", "When will order {} be delivered?"],
    "refunds": ["I want my money back for {}.", "Please refund order {}.", "The refund for {} is missing."],
    "greetings": ["Thank you for {}!", "Greetings to all, {}.", "Best wishes, {}."],
}


@pytest.fixture
def mails(tmp_path: Path) -> Path:
    path = tmp_path / "mails.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["number", "utterance", "intent"])
        for number in range(90):
            intent = list(MAILS)[number % 3]
            table.writerow([number, MAILS[intent][number % 7 % 3].format(number), intent])
    return path


def train(run: Run, *arguments: str) -> list[str]:
    return ["train", "--task", "classification", "--features", "words", *arguments]


def test_a_table_is_enough(run: Run, mails: Path, tiny_model: Path) -> None:
    done = run(*train(run, "--data", str(mails), "--model", str(tiny_model), "--output", "out"))
    assert done.code == 0, done
    (guessed,) = [line for line in done.err.splitlines() if "guessed" in line]
    assert guessed.startswith(f"The columns of {mails} are guessed: text is 'utterance', label is 'intent'.")
    assert "GuessedColumns" not in done.err  # what Python would show before it
    assert "Trained on 81 texts" in done.out
    assert "TF-IDF + linear" in done.out
    assert "macro F1" in done.out
    assert "memspan predict out/best" in done.out
    predicted = run("predict", "out/best", "Please refund order 12.", "Thank you for everything!")
    assert predicted.out.split() == ["refunds", "greetings"]
    report = json.loads(Path("out/report.json").read_text("utf-8"))
    assert report["stopped"] == "fitted"
    assert report["metrics"]["macro F1"] > 0.9
    assert report["details"]["texts"] == {"trained on": 81, "held out": 9}


def test_a_classifier_is_measured_on_a_file_of_its_own(run: Run, mails: Path, tiny_model: Path, tmp_path: Path) -> None:
    """Of other columns, with a row that cannot be used and a label that the model does not know."""
    assert run(*train(run, "--data", str(mails), "--model", str(tiny_model), "--output", "out")).code == 0
    saved = json.loads(Path("out/report.json").read_text("utf-8"))
    held_out = json.loads(run("eval", "out", "--json").out)
    assert held_out["metrics"] == pytest.approx(saved["metrics"])
    assert held_out["intervals"] == saved["details"]["intervals"]
    mails.unlink()  # what was trained on may be gone
    rows = [f"{MAILS[intent][0].format(number)};{intent}" for number in range(8) for intent in MAILS]
    (tmp_path / "new.csv").write_text(
        "\n".join(["body;kind", *rows, ";orders", "Where is order 9?;questions"]), "utf-8"
    )
    done = run("eval", "out/best", "--data", "new.csv")
    assert done.code == 0, done
    assert "text is 'body', label is 'kind'" in done.err
    assert "1 of 26 rows of new.csv are not used: row 26 has no text." in done.err
    assert "Measured on 25 records of new.csv." in done.out
    assert "macro F1" in done.out
    assert "questions    orders" in done.out
    few = run("eval", "out", "--data", "new.csv", "--task-settings", "limit=5", "--json")
    assert json.loads(few.out)["records"] == 5
    assert "leave out --plot" in run("eval", "out", "--plot", "a.png").sentence
    assert "got held_out" in run("eval", "out", "--data", "new.csv", "--task-settings", "held_out=.5").sentence


def test_wrong_predictions_are_shown(run: Run, mails: Path, tiny_model: Path) -> None:
    rows = mails.read_text("utf-8").splitlines()
    confusing = [f"{90 + number},Please refund order {number}.,greetings" for number in range(12)]
    mails.write_text("\n".join([*rows, *confusing]) + "\n", "utf-8")
    done = run(
        *train(run, "--data", str(mails), "--model", str(tiny_model), "--task-settings", "held_out=0.5", "--json")
    )
    details = json.loads(done.out)["details"]
    assert ["greetings", "refunds"] in [pair[:2] for pair in details["confused"]]
    assert all(wrong["label"] != wrong["prediction"] for wrong in details["wrong"])
    assert any("refund" in wrong["text"] for wrong in details["wrong"])
    shown = run(*train(run, "--data", str(mails), "--model", str(tiny_model), "--task-settings", "held_out=0.5"))
    assert "Most often confused" in shown.out
    assert "right is greetings: Please refund order" in shown.out
    assert "Nothing was written" in shown.out


def test_texts_of_no_label_are_rejected_without_training_on_any(run: Run, mails: Path, tiny_model: Path) -> None:
    rows = mails.read_text("utf-8").splitlines()
    foreign = [f"{90 + number},Quantum chromodynamics lattice {number},oos" for number in range(40)]
    mails.write_text("\n".join([*rows, *foreign]) + "\n", "utf-8")
    done = run(
        *train(run, "--data", str(mails), "--model", str(tiny_model), "--output", "out"),
        *("--task-settings", "reject=0.05", "--task-settings", "held_out=0.4", "--json"),
    )
    metrics = json.loads(done.out)["metrics"]
    assert metrics["in-scope macro F1"] > 0.9
    assert metrics["in-scope rejected"] < 0.1
    assert metrics["out-of-scope recall"] > 0.9
    assert metrics["in-scope accuracy"] > 0.9
    assert run("predict", "out/best", "Quantum chromodynamics").out.strip() == "oos"
    shown = run("predict", "out/best", "Quantum chromodynamics", "Please refund order 12.", "--json")
    foreign_share, share = (pair["probability"] for pair in json.loads(shown.out)["predictions"])
    assert 1 / 3 <= foreign_share < share  # that of the likeliest label


def test_features_need_classes_and_a_pretrained_model(run: Run, mails: Path, tiny_model: Path) -> None:
    refused = run("train", "--task", "summarisation", "--model", str(tiny_model), "--features", "words")
    assert "writes texts" in refused.sentence
    refused = run("train", "--task", "classification", "--model", "scratch", "--features", "words")
    assert "frozen pretrained model" in refused.sentence
    refused = run("train", "--task", "classification", "--model", str(tiny_model), "--features", "smells")
    assert "got 'smells'" in refused.sentence


def test_from_scratch_takes_no_pretrained_model(run: Run) -> None:
    done = run(
        "train", "--task", "classification", "--from-scratch", "--task-settings", "vocabulary=300", "--steps", "1"
    )
    assert done.code == 0, done
    assert "1 step on" in done.out


def test_a_run_is_not_overwritten_unless_it_is_resumed(run: Run, mails: Path, tiny_model: Path) -> None:
    arguments = train(run, "--data", str(mails), "--model", str(tiny_model), "--output", "out")
    assert run(*arguments).code == 0
    assert "holds a run already" in run(*arguments).sentence
    assert run(*arguments, "--resume").code == 0


LETTERS = [
    "--features",
    "words",
    "--features",
    "states",
    "--task-settings",
    "limit=60",
    "--task-settings",
    "segment=16",
]


def test_long_letters_are_read_in_segments(run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_memory, "STEPS", (2, 2))
    arguments = ["--task", "classification", "--model", str(tiny_model), *LETTERS]
    done = run("train", *arguments, "--output", "out")
    assert done.code == 0, done
    assert "Long texts are read in segments of" in done.out
    assert "first segment alone" in done.out
    letter = "We would like to book a room. " + "The weather is fine here. " * 20
    label = run("predict", "out/best", letter).out
    assert label.strip()
    again = run("train", *arguments, "--mechanism", "lstm", "--json")
    assert json.loads(again.out)["details"]["segments"]["validated"].keys() == {"mean over segments", "lstm", "chosen"}


def test_a_memory_over_segments_is_compared_with_its_twin(
    run: Run, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segment_memory, "STEPS", (2, 2))
    arguments = ["--task", "classification", "--model", str(tiny_model), *LETTERS, "--mechanism", "gru", "--seeds", "2"]
    done = run("compare", *arguments, "--json")
    assert done.code == 0, done
    result = json.loads(done.out)
    memory, twin = result["contenders"]
    assert [memory["name"], twin["name"]] == ["gru", "no memory"]
    assert memory["parameters"] == twin["parameters"] > 0
    assert memory["state_bytes"] == twin["state_bytes"] == 64 * 4
    assert result["baselines"].keys() >= {"TF-IDF + linear", "mean over segments, the same features"}
    assert result["baseline_figures"][0] != result["baseline_figures"][1]  # another split
    assert all(low <= high for low, high in result["intervals"].values())


def test_there_is_no_memory_to_compare(run: Run, mails: Path, tiny_model: Path) -> None:
    refused = run("compare", "--task", "classification", "--features", "words", "--model", str(tiny_model))
    assert "no memory to compare" in refused.sentence


def test_rows_that_cannot_be_used_are_counted_and_named(run: Run, mails: Path, tiny_model: Path) -> None:
    bad = ["90,,orders", "91,Where is it?,", "92,Caf\xe9 refund,refunds"]
    mails.write_bytes(mails.read_bytes() + "\n".join(bad).encode("latin-1") + b"\n")
    done = run(*train(run, "--data", str(mails), "--model", str(tiny_model), "--output", "out"))
    assert done.code == 0, done
    named = "row 92 has no text; row 93 has no label; row 94 is not UTF-8 text"
    assert f"3 of 93 rows of {mails} are not used: {named}." in done.err
    assert json.loads(Path("out/report.json").read_text("utf-8"))["details"]["left out"] != []


def test_the_metrics_stand_beside_their_intervals_and_the_baselines(run: Run, mails: Path, tiny_model: Path) -> None:
    done = run(*train(run, "--data", str(mails), "--model", str(tiny_model), "--json"))
    details = json.loads(done.out)["details"]
    low, high = details["intervals"]["macro F1"]
    assert low <= json.loads(done.out)["metrics"]["macro F1"] <= high
    assert details["baselines"].keys() == {"TF-IDF + linear", "most frequent label"}
    assert details["baselines"]["most frequent label"]["metrics"]["accuracy"] < 0.6


def test_features_are_chosen_by_the_script(run: Run, tmp_path: Path, tiny_model: Path) -> None:
    topics = {"天气": ["今天下雨了", "明天会下雪", "昨天刮大风"], "饮食": ["我想吃面条", "他喜欢喝茶", "晚饭吃饺子"]}
    path = tmp_path / "chinese.csv"
    texts = [f"{topics[topic][number % 3]}{number},{topic}" for number in range(30) for topic in topics]
    path.write_text("text,label\n" + "\n".join(texts) + "\n", "utf-8")
    done = run(
        "train", "--task", "classification", "--data", str(path), "--model", str(tiny_model), "--features", "auto"
    )
    assert done.code == 0, done
    assert "Features: characters, words. Not taken:" in done.err
    assert "does not know the script of the texts" in done.err
    assert "TF-IDF of characters + linear" in done.out


def test_adapters_are_trained_by_the_same_command_for_as_long_as_the_data_need(
    run: Run, mails: Path, tiny_model: Path
) -> None:
    """Three passes over 81 texts, 16 at a time; what is said about the model is the same."""
    options = ("--data", str(mails), "--model", str(tiny_model), "--precision", "fp32")
    done = run("train", "--task", "classification", *options, "--lora", "2", "--output", "out")
    assert done.code == 0, done
    assert "with adapters of rank 2: 16 steps of 16 texts." in done.err
    assert "text is 'utterance', label is 'intent'" in done.err
    assert "Trained on 81 texts" in done.out
    assert "TF-IDF + linear" in done.out
    saved = json.loads(Path("out/report.json").read_text("utf-8"))
    assert saved["config"]["task"]["segments"] == 1
    assert saved["config"]["task"]["settings"]["segment"] % 16 == 0
    assert saved["details"]["texts"] == {"trained on": 81, "held out": 9}
    assert run("predict", "out/best", "Please refund order 12.").code == 0
    shorter = run("train", "--task", "classification", *options, "--lora", "2", "--steps", "1", "--json")
    assert json.loads(shorter.out)["step"] == 1
    timed = run("train", "--task", "classification", *options, "--lora", "2", "--seconds", "0.1", "--json")
    assert "rank 2: 0.1 s of CPU time, in steps of 16 texts." in timed.err


def test_what_is_left_open_below_a_probability_is_shown(run: Run, mails: Path, tiny_model: Path) -> None:
    rows = mails.read_text("utf-8").splitlines()
    confusing = [f"{90 + number},Please refund order {number}.,greetings" for number in range(12)]
    mails.write_text("\n".join([*rows, *confusing]) + "\n", "utf-8")
    options = ("--data", str(mails), "--model", str(tiny_model), "--task-settings", "held_out=0.5")
    done = run(*train(run, *options, "--json"))
    report = json.loads(done.out)
    (none, all_texts, right), *others = report["details"]["sure"]
    assert (none, all_texts) == (0, 1)
    assert right == pytest.approx(report["metrics"]["accuracy"])
    shares = [share for _, share, _ in others]
    assert shares == sorted(shares, reverse=True)
    assert others[-1][2] > right
    assert "--min-probability" in run(*train(run, *options)).out
