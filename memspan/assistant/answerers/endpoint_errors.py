"""The sentences for what can go wrong with a server that writes answers."""

import re
from collections.abc import Sequence
from typing import Any

import httpx2

from memspan.assistant.answerers.base import PromptTooLong
from memspan.errors import AnswererFailed

LONGEST = 300  # characters of a server's message in a sentence
SHOWN = 20  # models in a sentence
# What vLLM and OpenAI say of a prompt that is too long.
_WINDOW = re.compile(r"(?:maximum context length is|context length is only) (\d+)")
_PROMPT = re.compile(r"(\d+) in the messages|resulted in (\d+) tokens|(?:passed|contains at least) (\d+) input tokens")


def refusal(
    url: httpx2.URL,
    response: httpx2.Response | None,
    body: Any,
    model: str | None = None,
    *,
    has_key: bool = False,
) -> AnswererFailed:
    """The error for a reply other than 200, or for an error within a stream, which has no status of its own."""
    message, record = _message(body)
    too_long = _too_long(url, message, record)
    if too_long is not None:
        return too_long
    status = 200 if response is None else response.status_code
    why = f" ({message})" if message else ""
    if 300 <= status < 400:
        target = one_line(response.headers.get("location", "nowhere")) if response is not None else ""
        return AnswererFailed(f"The server at {url} redirects to {target}: give that address if you trust it.")
    if status in (401, 403):
        way_out = "put the right one" if has_key else "put one"
        return AnswererFailed(f"The server at {url.host} refuses the key{why}: {way_out} into $MEMSPAN_API_KEY.")
    if status in (404, 405) and "model" in message.lower():
        return AnswererFailed(
            f"The server at {url.host} has no model '{model}'{why}: load it there, or choose another."
        )
    if status in (404, 405):
        return AnswererFailed(f"There is no chat completions API at {url}{why}: its address usually ends in /v1.")
    if status == 429:
        wait = one_line(response.headers.get("retry-after", "")) if response is not None else ""
        when = f"{wait} seconds" if wait.isdigit() else "a while"
        return AnswererFailed(f"The server at {url.host} takes no more requests now{why}: try again in {when}.")
    if status == 503:
        return AnswererFailed(f"The server at {url.host} is not ready{why}: wait until its model is loaded.")
    if status >= 500:
        return AnswererFailed(f"The server at {url.host} failed with status {status}{why}: look at its log.")
    if status == 200:
        return AnswererFailed(f"The server at {url.host} ended the answer with an error{why}: look at its log.")
    return AnswererFailed(f"The server at {url.host} refused the request with status {status}{why}.")


def unreachable(url: httpx2.URL, error: Exception, reason: str) -> AnswererFailed:
    """The error for a server that cannot be connected to, or that says nothing."""
    if isinstance(error, httpx2.ConnectTimeout):
        reason = "no connection in time"
    return AnswererFailed(
        f"The server at {url} does not answer ({reason}): start it, or give the address of another with --answer-with."
    )


def broken_stream(url: httpx2.URL, reason: str) -> AnswererFailed:
    """The error for a connection that broke."""
    return AnswererFailed(
        f"The answer of the server at {url.host} broke off ({reason}): ask again, and look at the server's log if it happens "
        "again."
    )


def not_chat(url: httpx2.URL, reason: str) -> AnswererFailed:
    """The error for a reply that has another form than the API's."""
    return AnswererFailed(
        f"The server at {url.host} does not speak the chat completions API of OpenAI ({reason}): check the address, which "
        "usually ends in /v1."
    )


def several_models(url: httpx2.URL, models: Sequence[str]) -> AnswererFailed:
    """The error for a server of which a model must be chosen, or that has none."""
    if not models:
        return AnswererFailed(f"The server at {url} has no model: load one there.")
    listed = ", ".join(one_line(model) for model in models[:SHOWN])
    more = f" and {len(models) - SHOWN} more" if len(models) > SHOWN else ""
    return AnswererFailed(
        f"The server at {url} has the models {listed}{more}: choose one with --answer-with '{url}#{one_line(models[0])}'."
    )


def one_line(text: str) -> str:
    """What a server says as one short line without control characters."""
    visible = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(visible.split()).rstrip(".")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def _message(body: Any) -> tuple[str, dict[str, Any]]:
    """The message of an error and its record: {"error": {"message"}}, {"error": "..."}, {"message"}, {"detail"}."""
    if not isinstance(body, dict):
        return "", {}
    record = body.get("error", body)
    if isinstance(record, str):
        return one_line(record), {}
    if not isinstance(record, dict):
        return "", {}
    message = record.get("message") or record.get("detail") or ""
    return one_line(message) if isinstance(message, str) else "", record


def _too_long(url: httpx2.URL, message: str, record: dict[str, Any]) -> PromptTooLong | None:
    """The error for a prompt beyond the window: llama.cpp gives both numbers in fields, vLLM and OpenAI in a sentence."""
    window, tokens = record.get("n_ctx"), record.get("n_prompt_tokens")
    if record.get("type") != "exceed_context_size_error" or not isinstance(window, int):
        found = _WINDOW.search(message)
        if found is None:
            return None
        window = int(found[1])
        counted = _PROMPT.search(message)
        tokens = None if counted is None else int(next(filter(None, counted.groups())))
    tokens = tokens if isinstance(tokens, int) else None
    size = "more tokens" if tokens is None else f"{tokens:,} tokens"
    return PromptTooLong(
        f"The prompt must fit into the window of the server at {url.host}, {window:,} tokens, with the answer, got {size}: "
        "lower --budget or --max-new-tokens, or start the server with a larger window.",
        window,
        tokens,
    )
