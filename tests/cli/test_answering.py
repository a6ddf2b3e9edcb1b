"""`--answer-with`: another engine writes the answer, on the command line."""

import json
from pathlib import Path

import pytest

from memspan.plugins import is_installed
from tests.commands import Run
from tests.servers import as_events, as_json, chunk, completion, dialect, serving
from tests.tiny_gguf import write_gguf

QUESTION = ["library", "Where does the zinc trunk stand?"]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMSPAN_API_KEY", "very-secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_server_answers_a_question(run: Run, library: Path) -> None:
    with serving(dialect("ollama", completion("Under ", "the \x1b[1mstair."))) as server:
        shown = run(
            "ask", *QUESTION, "--answer-with", f"{server.url}#qwen3:8b", "--temperature", "0.7", "--top-p", "0.9"
        )
        answer = json.loads(run("ask", *QUESTION, "--answer-with", f"{server.url}#qwen3:8b", "--json").out)
    assert shown.code == 0
    assert shown.out.startswith("Under the  [1mstair.\n")
    assert "[1] secret.md" in shown.out
    assert (answer["answer"], answer["prompt_tokens"]) == ("Under the \x1b[1mstair.", 300)
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["top_p"], body["max_tokens"]) == ("qwen3:8b", 0.7, 0.9, 128)
    assert "zinc trunk" in body["messages"][-1]["content"]
    assert "very-secret" not in shown.out + shown.err


def test_a_failing_server_is_one_sentence(run: Run, library: Path) -> None:
    with serving(dialect("vllm", as_events(chunk("Under"), {"error": {"message": "engine dead"}}))) as server:
        outcome = run("ask", *QUESTION, "--answer-with", server.url)
    assert outcome.code == 1
    assert "ended the answer with an error (engine dead)" in outcome.sentence
    refused = run("ask", *QUESTION, "--answer-with", server.url)
    assert refused.code == 1
    assert "does not answer" in refused.sentence
    wrong = run("ask", *QUESTION, "--answer-with", "localhost:80")
    assert wrong.code == 2
    assert "must begin with http:// or https://" in wrong.sentence
    assert "very-secret" not in outcome.err + refused.err + wrong.err


def test_a_chat_outlives_a_failing_server(run: Run, library: Path) -> None:
    error = as_json({"error": {"message": "Loading model", "code": 503}}, 503)
    with serving(dialect("vllm", error, completion("Good day."))) as server:
        chat = ["chat", "--memory", "library", "--system", "Be brief.", "--answer-with", server.url]
        outcome = run(*chat, stdin="Hello.\nHello again.\n")
    assert outcome.code == 0
    assert "is not ready (Loading model)" in outcome.err
    assert outcome.out.strip() == "Good day."
    assert server.bodies[1]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert json.loads(run("inspect", "library", "--json").out)["sources"][-1]["name"].startswith("chat/")


def test_a_silent_cut_of_the_prompt_is_a_remark(run: Run, library: Path) -> None:
    with serving(dialect("vllm", completion("Yes.", prompt=3))) as server:
        outcome = run("ask", *QUESTION, "--answer-with", server.url)
    assert outcome.code == 0
    assert "read only 3 tokens of a prompt" in outcome.err


@pytest.mark.skipif(not is_installed("xllamacpp"), reason="the extra `gguf` is not installed")
def test_a_file_answers_a_question(run: Run, library: Path, tiny_model: Path, tmp_path: Path) -> None:
    write_gguf(tiny_model, tmp_path / "tiny.gguf")
    shown = run("ask", *QUESTION, "--answer-with", "tiny.gguf", "--max-new-tokens", "8")
    assert (shown.code, shown.err) == (0, "")
    assert "secret.md" in shown.out
    assert "There is no file other.gguf" in run("ask", *QUESTION, "--answer-with", "other.gguf").sentence
