"""A GGUF file as an answerer: llama.cpp in this process, by the package xllamacpp.

The package runs llama.cpp's server. It listens on a Unix socket in a folder that only this user can enter, so that nobody
else and no web page reaches it; `EndpointAnswerer` speaks to it as to any other server. The chat template is that of the
file, run by llama.cpp's own interpreter of templates, which can call nothing outside of itself.
"""

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from memspan.assistant.answerers.base import Usage
from memspan.assistant.answerers.endpoint import EndpointAnswerer, socket_reply
from memspan.data.plain_text import Message, require_characters
from memspan.errors import AnswererFailed, UsageError
from memspan.models.generate import Sampling
from memspan.plugins import require_installed

# Tokens of prompt and answer, at most: memory for all of them is taken when the file is opened, in a model of 8 billion
# weights 2 GB. A file with a smaller window keeps it.
WINDOW = 16_384
_LONGEST_SOCKET = 100  # characters of a path: Linux allows 107 and macOS 103
_BREAK = "\u200b"  # takes the spelling of a control token apart


class GgufAnswerer:
    """Answers with a GGUF file; it is opened at the first use."""

    def __init__(
        self, path: str | Path, *, window: int = WINDOW, on_warning: Callable[[str], None] = warnings.warn
    ) -> None:
        """
        Args:
            window: tokens of prompt and answer, at most.
            on_warning: called with a sentence if something about an answer is to be known.

        Raises:
            UsageError: no such file, or the package is not installed.
        """
        require_installed("Answers from a GGUF file need", "xllamacpp")
        self._path, self._window, self._on_warning = Path(path).absolute(), window, on_warning
        if not self._path.is_file():
            raise UsageError(f"There is no file {path}.")

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def window(self) -> int | None:
        return self._server.answerer.window

    def answer(self, messages: Sequence[Message], sampling: Sampling) -> Generator[str, None, Usage | None]:
        """The answer in parts; returns the tokens of prompt and answer.

        Raises:
            PromptTooLong: the prompt does not fit into the window.
            AnswererFailed: llama.cpp cannot open the file, or fails.
        """
        plain = [{**message, "content": self._server.plain(message["content"])} for message in messages]
        return (yield from self._server.answerer.answer(plain, sampling))

    @cached_property
    def _server(self) -> "_Server":
        return _Server(self._path, self._window, self._on_warning)


class _Server:
    """llama.cpp with one file, and the answerer that speaks to it."""

    def __init__(self, path: Path, window: int, on_warning: Callable[[str], None]) -> None:
        import xllamacpp

        folder = tempfile.mkdtemp(prefix="memspan-", dir=_folder_for_sockets())  # only this user may enter it
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._unix_path = Path(folder, "llama.sock")
        try:
            self._running = xllamacpp.Server(_settings(xllamacpp.CommonParams(), path, window, self._unix_path))
        except Exception as error:  # the package raises RuntimeError for all that can go wrong
            raise AnswererFailed(
                f"llama.cpp cannot open {path}: it is no GGUF file of a language model, it is damaged, it is of a kind that "
                "the installed xllamacpp does not know, or there is not enough memory."
            ) from error
        self.answerer = EndpointAnswerer("http://llama.cpp/v1", on_warning=on_warning, unix_path=self._unix_path)

    def plain(self, text: str) -> str:
        """`text`, in which the spellings of control tokens are taken apart: contents write no turns of their own.

        The server makes a control token of its spelling wherever it stands in a message.
        """
        require_characters("message", text)
        for _ in range(3):  # a tokenizer may find another when one is taken apart
            control = self._control_tokens(text)
            if not control:
                return text
            for spelling in control:
                text = text.replace(spelling, spelling[:1] + _BREAK + spelling[1:])
        raise UsageError("The text spells control tokens of the model, which cannot be taken apart: take them out.")

    def _control_tokens(self, text: str) -> set[str]:
        """The spellings of control tokens in a text."""
        tokens, plain = self._tokens(text, parse_special=True), self._tokens(text, parse_special=False)
        if tokens == plain:
            return set()
        others = set(tokens) - set(plain)  # besides control tokens, words that were split differently beside them
        return {spelling for number, spelling in others if spelling and not self._is_plain(number, spelling)}

    def _is_plain(self, number: int, spelling: str) -> bool:
        """Whether a token is what its own spelling as a plain text gives."""
        return [number] == [other for other, _ in self._tokens(spelling, parse_special=False)]

    def _tokens(self, text: str, *, parse_special: bool) -> list[tuple[int, str]]:
        """The tokens of a text with what they spell; the bytes of a part of a character spell nothing."""
        body = {"content": text, "parse_special": parse_special, "with_pieces": True}
        tokens = socket_reply(self._unix_path, "/tokenize", body)["tokens"]
        return [(token["id"], token["piece"] if isinstance(token["piece"], str) else "") for token in tokens]


def _settings(settings: Any, path: Path, window: int, unix_path: Path) -> Any:
    """The settings of the server, in which everything that reaches beyond the socket and the file is switched off."""
    settings.model.path, settings.n_ctx, settings.n_parallel = str(path), window, 1
    # Threads beyond the processors that are free wait for each other at every layer: on two busy cores, two threads wrote
    # a sixth of what a single one did. torch's number of threads follows OMP_NUM_THREADS.
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = torch.get_num_threads()
    settings.hostnames, settings.offline, settings.ui = [str(unix_path)], True, False
    settings.endpoint_slots = settings.warmup = False
    settings.cache_ram_mib, settings.verbosity = 0, -1
    return settings


def _folder_for_sockets() -> str | None:
    """Where the folder of a socket is made: the path of a socket must be short. None for the system's default."""
    return None if len(tempfile.gettempdir()) < _LONGEST_SOCKET // 2 else "/tmp"  # nosec B108: a folder of its own is made there
