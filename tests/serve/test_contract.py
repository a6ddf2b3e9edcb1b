"""The server's contract at /openapi.json: that it stands, and that the server keeps to it whatever is sent."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from memspan import LanguageModel
from memspan.serve.service import Limits
from tests.assistant.conftest import HEADS
from tests.serve.running import ANNA, KEYS, Running, running

# In a form every value is text: a number in it is no other type than the document has.
CONFIGURATION = """
[[operations]]
include-name = ["POST /v1/files", "POST /v1/memories/{name}/files"]
checks.negative_data_rejection.enabled = false
"""
WINDOW = 160  # tokens: what asks for as many tokens as there can be is answered soon


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Running]:
    model = AutoModelForCausalLM.from_pretrained(tiny_model, max_position_embeddings=WINDOW).eval()
    lm = LanguageModel(model, AutoTokenizer.from_pretrained(tiny_model), name="tiny", heads=HEADS)
    with running(tmp_path_factory.mktemp("contract"), lm, KEYS, Limits(new_tokens=4)) as server:
        yield server


@pytest.fixture(scope="module")
def document(server: Running) -> dict[str, Any]:
    with server.http(ANNA) as http:
        contract: dict[str, Any] = http.get("/openapi.json").json()
    return contract


def test_every_operation_says_how_it_refuses_and_who_may_call_it(document: dict[str, Any]) -> None:
    operations = {
        (method, path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert len(operations) > 50
    for (method, path), operation in operations.items():
        assert set(operation["responses"]) == {"200", "default"}, (method, path)
        assert ("security" in operation) == (path != "/health")
        assert operation["description"]
    assert document["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    chat = document["components"]["schemas"]["ChatRequest"]["properties"]
    assert {"messages", "response_format", "max_completion_tokens", "stream", "temperature"} <= chat.keys()
    assert "ValidationError" not in document["components"]["schemas"]


def test_errors_have_the_form_of_the_document(server: Running, document: dict[str, Any]) -> None:
    fields = document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    calls: list[tuple[str, str, Any, int]] = [
        ("POST", "/v1/responses", {"model": "tiny"}, 400),
        ("GET", "/v1/responses/resp_0", None, 404),
        ("GET", "/nowhere", None, 404),
        ("PUT", "/v1/models", None, 405),
    ]
    with server.http(ANNA) as http:
        for method, path, body, status in calls:
            reply = http.request(method, path, json=body)
            assert reply.status_code == status
            assert reply.json().keys() == {"error"}
            assert reply.json()["error"].keys() == fields.keys()


def test_a_method_that_is_not_taken_is_told_which_are(server: Running) -> None:
    with server.http(ANNA) as http:
        for path, methods in (
            ("/v1/models", "GET"),
            ("/v1/conversations/x", "DELETE, GET, POST"),
            ("/v1/conversations/x/items", "GET, POST"),
            ("/v1/conversations/x/items/y", "DELETE, GET"),
            ("/v1/files", "GET, POST"),
            ("/v1/ratings/pairs/next", "GET"),
            ("/v1/ratings/pairs/x", "POST"),
        ):
            reply = http.request("OPTIONS", path)
            assert (reply.status_code, reply.headers["Allow"]) == (405, methods)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("schemathesis") is None, reason="needs schemathesis (group contract)")
@pytest.mark.parametrize("phase", ["coverage", "fuzzing"])
def test_the_server_keeps_to_its_contract_whatever_is_sent(server: Running, tmp_path: Path, phase: str) -> None:
    """Schemathesis, with all its checks but one.

    That a request which is as the document has it is not refused cannot hold: models, memories and ids must exist.
    """
    (tmp_path / "schemathesis.toml").write_text(CONFIGURATION, "utf-8")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"),
        *("-H", f"Authorization: Bearer {ANNA}", "--exclude-checks", "positive_data_acceptance"),
        *("--phases", phase, "--max-examples", "20", "--seed", "1", "--continue-on-failure"),
        *("--request-timeout", "60", "--warnings", "off"),
    ]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
