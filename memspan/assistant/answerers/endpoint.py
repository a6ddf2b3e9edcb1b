"""A server as an answerer: any that speaks the chat completions API of OpenAI, such as llama.cpp, Ollama or vLLM.

The servers differ in how they report a prompt that is too long, in what they say about their window, and in the form of
an error; each difference is noted where it matters.
"""

import json
import os
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from ipaddress import ip_address
from pathlib import Path
from ssl import SSLContext
from typing import Any

import httpx2

from memspan.assistant.answerers.base import Usage
from memspan.assistant.answerers.endpoint_errors import (
    broken_stream,
    not_chat,
    one_line,
    refusal,
    several_models,
    unreachable,
)
from memspan.data.plain_text import Message
from memspan.errors import AnswererFailed, UsageError
from memspan.models.generate import Sampling

CONNECT_SECONDS = 10.0
SILENCE_SECONDS = 300.0  # between two parts of an answer: a server without a GPU reads a long prompt for minutes
LARGEST_BODY = 2**20  # bytes of a reply that is no stream
CHARACTERS_PER_TOKEN = 64  # no more than this many are accepted for each token of the answer that was requested
# Bytes of text per token of a prompt, at most: English has 4 to 5 in every common tokenizer. Ollama cuts a prompt that does
# not fit to half of its window without a word; `usage` then counts the rest.
BYTES_PER_TOKEN = 8

_TEXT_KEYS = {"delta": "in a part of a stream", "message": "in a reply that is no stream"}


@dataclass(frozen=True)
class _Served:
    """A model of a server, and the tokens of its window if the server says."""

    model: str
    window: int | None


class EndpointAnswerer:
    """Answers with a server. Nothing is sent to any other host: redirections are not followed.

    The key is read from $MEMSPAN_API_KEY, else, for HTTPS and for servers on this machine, from $OPENAI_API_KEY.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        on_warning: Callable[[str], None] = warnings.warn,
        unix_path: Path | None = None,
    ) -> None:
        """
        Args:
            url: the beginning of the addresses of the API, usually ending in /v1.
            model: None takes the only model that the server has.
            on_warning: called with a sentence if the server seems to have read only a part of the prompt.
            unix_path: the Unix socket of a server of this process, which gets no key; the host in `url` is then a mere name.

        Raises:
            UsageError: not an address with http or https; an address with a password or a query.
        """
        self.url, self._model, self._on_warning = _checked(url), model, on_warning
        self._unix_path = unix_path

    @property
    def name(self) -> str:
        return f"{self._served.model} at {self.url.host}"

    @property
    def window(self) -> int | None:
        return self._served.window

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Usage | None]:
        """The answer in parts, as the server writes them; returns the tokens if the server counts them.

        Raises:
            PromptTooLong: the server refuses the prompt because of its length.
            AnswererFailed: no connection, a refusal, or a reply that is no chat completion.
        """
        body = {
            "model": self._served.model,
            "messages": [dict(message) for message in messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            **_settings(sampling),
        }
        with self._client() as client, self._explained():
            request = client.build_request("POST", self._address("chat/completions"), json=body)
            response = client.send(request, stream=True)
            try:
                if response.status_code != 200:
                    raise self._refusal(response)
                reply = _Reply(self.url, CHARACTERS_PER_TOKEN * (sampling.max_new_tokens + 1))
                yield from reply.parts(_events(response))
            finally:
                response.close()
        self._check_usage(reply.usage, messages)
        return reply.usage

    @cached_property
    def _served(self) -> _Served:
        """The model, and its window by the list of models (vLLM) or the properties of the server (llama.cpp)."""
        with self._client() as client, self._explained():
            models = self._models(client)
            if self._model is None and len(models) != 1:
                raise several_models(self.url, list(models))
            model = next(iter(models)) if self._model is None else self._model
            record = models.get(model, {})
            window = record.get("max_model_len")
            if record.get("owned_by") == "llamacpp":
                root = self.url.path.rstrip("/").removesuffix("/v1")
                with client.stream("GET", self.url.copy_with(path=f"{root}/props")) as response:
                    window = _at(_body(response), "default_generation_settings", "n_ctx")
        return _Served(model, window if isinstance(window, int) and window > 1 else None)

    def _models(self, client: httpx2.Client) -> dict[str, Mapping[str, Any]]:
        """What the server says of each of its models, by id; nothing if it has no list and a model was chosen."""
        with client.stream("GET", self._address("models")) as response:
            if response.status_code != 200:
                if self._model is not None and response.status_code not in (401, 403):
                    return {}
                raise self._refusal(response)
            listed = _at(_body(response), "data")
        if not isinstance(listed, list):
            if self._model is not None:
                return {}
            raise not_chat(self.url, "its list of models is none")
        records = [record for record in listed if isinstance(record, dict) and isinstance(record.get("id"), str)]
        return {record["id"]: record for record in records}

    def _refusal(self, response: httpx2.Response) -> AnswererFailed:
        return refusal(self.url, response, _body(response), self._model, has_key=self._key() is not None)

    def _check_usage(self, usage: Usage | None, messages: Sequence[Message]) -> None:
        sent = sum(len(message["content"].encode()) for message in messages)
        if usage is not None and sent > BYTES_PER_TOKEN * max(usage.prompt_tokens, 1):
            self._on_warning(
                f"the server at {self.url.host} read only {usage.prompt_tokens:,} tokens of a prompt of {sent:,} bytes: its "
                "window is smaller than the prompt, and it cut the prompt silently. Give it a larger window (Ollama: "
                "OLLAMA_CONTEXT_LENGTH), or lower --budget."
            )

    def _client(self) -> httpx2.Client:
        key = self._key()
        if self._unix_path is not None:
            return socket_client(self._unix_path)
        return httpx2.Client(
            headers={"User-Agent": "memspan"} | ({} if key is None else {"Authorization": f"Bearer {key}"}),
            timeout=httpx2.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            follow_redirects=False,
            verify=_certificates(),
            trust_env=not _is_local(self.url),  # a proxy cannot reach this machine
        )

    def _key(self) -> str | None:
        if self._unix_path is not None:
            return None
        general = os.environ.get("OPENAI_API_KEY") if self.url.scheme == "https" or _is_local(self.url) else None
        return os.environ.get("MEMSPAN_API_KEY") or general or None

    def _address(self, path: str) -> httpx2.URL:
        return self.url.copy_with(path=f"{self.url.path.rstrip('/')}/{path}")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What can go wrong with a connection, as AnswererFailed."""
        try:
            yield
        except httpx2.TimeoutException as error:
            raise unreachable(self.url, error, f"it was silent for {SILENCE_SECONDS:.0f} seconds") from error
        except (httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol) as error:
            raise unreachable(self.url, error, one_line(str(error))) from error
        except httpx2.HTTPError as error:
            raise broken_stream(self.url, one_line(str(error))) from error


class _Reply:
    """A reply while it arrives: the text in parts, then the usage."""

    def __init__(self, url: httpx2.URL, longest: int) -> None:
        self._url, self._longest = url, longest
        self._length, self._has_reasoned, self._reason = 0, False, ""
        self.usage: Usage | None = None

    def parts(self, events: Iterator[Any]) -> Iterator[str]:
        """The text of the events. Raises AnswererFailed if they end too early, are none, or report an error."""
        for event in events:
            if not isinstance(event, dict):
                raise not_chat(self._url, "an event of the stream is no JSON object")
            if "error" in event or event.get("object") == "error":
                raise refusal(self._url, None, event)
            self._count(event.get("usage"))
            yield from self._texts(event.get("choices"))
            if self._length > self._longest:
                return
        if not self._reason:
            raise broken_stream(self._url, "the stream ended before the answer did")
        if not self._length and self._has_reasoned:
            raise AnswererFailed(
                f"The server at {self._url.host} spent all tokens of the answer on reasoning: allow more with --max-new-tokens."
            )

    def _texts(self, choices: Any) -> Iterator[str]:
        if not choices:
            return  # an event that carries only the usage
        choice = choices[0] if isinstance(choices, list) else None
        delta = next((choice[key] for key in _TEXT_KEYS if choice.get(key)), None) if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict | None):
            raise not_chat(self._url, "an event of the stream is no part of a chat completion")
        delta = delta or {}
        self._has_reasoned = self._has_reasoned or bool(delta.get("reasoning_content") or delta.get("reasoning"))
        self._reason = str(choice.get("finish_reason") or self._reason)
        text = delta.get("content")
        if isinstance(text, str) and text:
            self._length += len(text)
            yield text

    def _count(self, usage: Any) -> None:
        counts = (_at(usage, "prompt_tokens"), _at(usage, "completion_tokens"))
        if all(isinstance(count, int) and count >= 0 for count in counts):
            self.usage = Usage(*counts)


def socket_client(unix_path: Path) -> httpx2.Client:
    """A client that sends every request to a Unix socket."""
    transport = httpx2.HTTPTransport(uds=str(unix_path))
    return httpx2.Client(transport=transport, timeout=SILENCE_SECONDS, trust_env=False)


def socket_reply(unix_path: Path, path: str, body: Mapping[str, Any]) -> Any:
    """The JSON value that a server on a Unix socket replies to a request. Raises AnswererFailed if there is none."""
    try:
        with socket_client(unix_path) as client:
            return client.post(f"http://localhost{path}", json=body).raise_for_status().json()
    except (httpx2.HTTPError, ValueError) as error:
        raise AnswererFailed(f"llama.cpp fails to reply to {path} ({one_line(str(error))}).") from error


def _checked(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError) as error:
        raise UsageError(f"The address of a server must be a URL, got {url!r} ({error}).") from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise UsageError(f"The address of a server must begin with http:// or https:// and a host, got '{url}'.")
    if parsed.userinfo or parsed.query:
        raise UsageError(
            f"The address of a server must have neither a password nor a query, got one for {parsed.host}: put the key into "
            "$MEMSPAN_API_KEY."
        )
    return parsed.copy_with(fragment=None)


@cache
def _certificates() -> SSLContext:
    """The system's certificates, read once."""
    return httpx2.create_ssl_context()


def _is_local(url: httpx2.URL) -> bool:
    if url.host == "localhost":
        return True
    try:
        return ip_address(url.host).is_loopback
    except ValueError:
        return False


def _settings(sampling: Sampling) -> dict[str, Any]:
    """The fields of a request for these settings; those of the API's own default are left out."""
    settings: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
    if sampling.top_p < 1:
        settings["top_p"] = sampling.top_p
    if sampling.seed is not None:
        settings["seed"] = sampling.seed
    return settings


def _events(response: httpx2.Response) -> Iterator[Any]:
    """The JSON values of a stream of events, up to [DONE]; the one value of a reply that is no stream."""
    if "event-stream" not in response.headers.get("content-type", ""):
        body = _body(response)
        if not isinstance(body, dict):
            raise not_chat(response.url, f"it sent {one_line(response.headers.get('content-type', 'nothing'))}")
        yield body
        return
    for event in httpx2.EventSource(response):
        if event.data == "[DONE]":
            return
        try:
            yield json.loads(event.data)
        except ValueError as error:
            raise not_chat(response.url, "an event of the stream is no JSON") from error


def _body(response: httpx2.Response) -> Any:
    """The JSON of a short body; a long one, or one of another kind, as text."""
    content = b""
    for block in response.iter_bytes():
        content += block
        if len(content) > LARGEST_BODY:
            break
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode("utf-8", "replace")


def _at(value: Any, *keys: str) -> Any:
    """The value behind some keys of nested objects; None if it is not there."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
