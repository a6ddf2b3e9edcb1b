"""Dockerfile and compose.yaml, so far as they can be checked without Docker: rights, addresses, health, options."""

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from tests.commands import Run
from tests.paths import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, in order; lines that go on are joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], " ".join(line.split(None, 1)[1].split())) for line in lines]


def argument(name: str) -> str:
    """The argument of the last instruction of this name, which is the one that holds."""
    return [value for instruction, value in instructions() if instruction == name][-1]


def test_the_image_runs_as_a_user_without_rights_that_can_write_to_its_volume_alone() -> None:
    names = [name for name, _ in instructions()]
    assert argument("USER").isdecimal()  # else a cluster cannot tell that it is not root
    assert argument("USER") != "0"
    assert f"useradd --create-home --uid {argument('USER')} " in " ".join(value for _, value in instructions())
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER") :])
    variables = dict(re.findall(r"(\w+)=(\S+)", argument("ENV")))
    volume = argument("VOLUME")
    for name in ("MEMSPAN_CACHE", "HF_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        assert variables[name].startswith(f"{volume}/"), name
    assert variables["PYTHONDONTWRITEBYTECODE"] == "1"
    assert argument("WORKDIR") == volume


def test_the_image_is_stopped_by_what_python_ends_at_in_any_moment() -> None:
    """The first process of a container ignores SIGTERM until the server listens: for SIGINT, Python has a handler."""
    assert argument("STOPSIGNAL") == "SIGINT"
    for service in SERVICES.values():
        assert "stop_signal" not in service


def test_images_are_named_without_a_registry() -> None:
    for image in (argument("FROM"), *(service["image"] for service in SERVICES.values())):
        assert re.fullmatch(r"[a-z0-9-]+(/[a-z0-9-]+)?(:[\w.-]+)?", image), image
    text = (ROOT / "Dockerfile").read_text("utf-8") + (ROOT / "compose.yaml").read_text("utf-8")
    hosts = set(re.findall(r"https?://([\w.-]+)", text))
    assert hosts == {"127.0.0.1", "memspan"}


def test_torch_is_that_of_the_constraints() -> None:
    commands = " ".join(value for name, value in instructions() if name == "RUN")
    assert "grep '^torch==' constraints.txt" in commands
    assert "-c constraints.txt '.[serve]'" in commands
    assert re.search(r"^torch==", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)


def test_what_is_copied_into_the_image_is_there() -> None:
    for name, value in instructions():
        if name == "COPY":
            for path in value.split()[:-1]:
                assert (ROOT / path).exists(), path


def commands() -> list[Sequence[str]]:
    return [json.loads(argument("CMD")), SERVICES["memspan"]["command"]]


@pytest.mark.parametrize("command", commands(), ids=["image", "compose"])
def test_the_command_has_options_that_there_are_and_the_port_of_the_health_check(command: list[str], run: Run) -> None:
    assert json.loads(argument("ENTRYPOINT")) == ["memspan"]
    shown = run(command[0], "--help").out
    options = [part for part in command if part.startswith("--")]
    assert {option for option in options if not re.search(rf"{option}\b", shown)} == set()
    port = command[command.index("--port") + 1]
    check = argument("HEALTHCHECK")
    assert f"http://127.0.0.1:{port}/health" in check
    compile(json.loads(check[check.index("[") :])[2], "HEALTHCHECK", "exec")
    assert command[1].startswith(f"{argument('VOLUME')}/")


def test_ports_are_open_to_this_machine_alone() -> None:
    for name, service in SERVICES.items():
        assert service["ports"], name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name
        assert "network_mode" not in service
        assert "privileged" not in service
        assert "no-new-privileges:true" in service["security_opt"]


def test_the_server_of_compose_is_read_only_and_needs_a_key() -> None:
    server = SERVICES["memspan"]
    assert server["read_only"] is True
    assert server["tmpfs"] == ["/tmp"]
    assert server["cap_drop"] == ["ALL"]
    assert ":?" in server["environment"]["MEMSPAN_SERVER_KEYS"]
    volumes = [volume.split(":") for service in SERVICES.values() for volume in service["volumes"]]
    assert {name for name, _ in volumes} == set(COMPOSE["volumes"])


def test_open_webui_sends_what_the_documentation_says() -> None:
    variables = SERVICES["open-webui"]["environment"]
    command = SERVICES["memspan"]["command"]
    host = command[command.index("--allow-host") + 1]
    assert variables["OPENAI_API_BASE_URLS"] == f"http://{host}:{command[command.index('--port') + 1]}/v1"
    headers = json.loads(variables["OPENAI_API_CONFIGS"])["0"]["headers"]
    page = (ROOT / "docs" / "server.md").read_text("utf-8")
    assert json.dumps(headers) in page
