"""Contents as plain text: whatever a document, a question or a message spells, no control token comes of it.

A tokenizer makes a control token of the string of an added token ("<|im_start|>", "</s>", "<think>") wherever it stands,
so that a document could write turns of its own into a prompt. Here only the marks of a chat template become control
tokens; the same strings in contents are tokenized like any other text. Contents without such strings get the ids that
the tokenizer itself gives them. The tokenizer is left as it is: the other strings are taken apart by a private copy, in
which the control tokens have secret names.
"""

import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import tokenizers

from memspan.errors import UsageError

Span = tuple[int, int]  # first character, end character
Message = Mapping[str, str]  # "role" and "content"


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of contents, without a control token; see `plain_tokens`."""
    return plain_tokens(tokenizer, text)[0]


def plain_tokens(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    """The ids of contents, without a control token, and the characters of each.

    Args:
        tokenizer: a fast tokenizer of transformers, or a tokenizer of the `tokenizers` library. Its control tokens are
            those that it had when it was used first.

    Raises UsageError if the text holds a lone surrogate.
    """
    require_characters("text", text)
    tokens = _tokens(tokenizer, text)
    return _taken_apart(tokenizer, text) if _control_tokens_of(tokenizer).spelled(text, *tokens) else tokens


def plain_batch(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """`plain_ids` of many texts at once."""
    texts = [require_characters("text", text) for text in texts]
    control = _control_tokens_of(tokenizer)
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [
        _taken_apart(tokenizer, text)[0] if control.spelled(text, encoding.ids, encoding.offsets) else encoding.ids
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def conversation_ids(
    tokenizer: Any,
    messages: Sequence[Message],
    render: Callable[[Sequence[Message]], str],
    *,
    add_special_tokens: bool = False,
) -> list[int]:
    """The ids of a rendered conversation. Its control tokens are those of `render`: the contents of messages add none.

    Args:
        tokenizer: a fast tokenizer of transformers.
        render: the text of a conversation, by a chat template for example.
        add_special_tokens: whether the tokenizer adds those that it puts around a text.

    Raises UsageError if a message holds a lone surrogate.
    """
    control, hidden = _control_tokens_of(tokenizer), _HiddenStrings()
    shielded = []
    for message in messages:
        content = require_characters("message", message["content"])
        spelled = control.spelled(content, *_tokens(tokenizer, content))
        shielded.append({**message, "content": hidden.hide(content, [span for span, _ in spelled])})
    text = render(shielded)
    if not hidden.strings:
        ids: list[int] = tokenizer(text, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
        return list(ids)
    parts, end = [], 0
    for (first, last), number in control.spelled(text, *_tokens(tokenizer, text)):
        parts += [text[end:first], control.names[number]]
        end = last
    text = hidden.restore("".join([*parts, text[end:]]))
    return list(control.encoder(_backend(tokenizer)).encode(text, add_special_tokens=add_special_tokens).ids)


def require_characters(noun: str, text: str) -> str:
    """`text`; raises UsageError if it holds a lone surrogate, which stands for a byte that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"The {noun} must be valid Unicode, got {text[error.start]!r} as character {error.start + 1:,}: "
            "give it in UTF-8."
        ) from None
    return text


class ControlTokens:
    """The control tokens of a tokenizer: its special tokens, and other added tokens that are not mere words or spaces.

    Attributes:
        names: the secret name of each of them in `encoder`, by id.
    """

    def __init__(self, backend: tokenizers.Tokenizer) -> None:
        added, secret = backend.get_added_tokens_decoder(), secrets.token_hex(12)
        self._strings = {
            number: token.content for number, token in added.items() if token.special or not _is_wording(token.content)
        }
        self.names = {number: f"{secret}x{number:08}x" for number in self._strings}
        self._unknown = _unknown_id(backend)
        self._encoder: tokenizers.Tokenizer | None = None
        self._mutex = threading.Lock()

    def spelled(self, text: str, ids: Sequence[int], spans: Sequence[Span]) -> list[tuple[Span, int]]:
        """The characters and the id of each control token among the tokens of `text`, spaces around it left out."""
        found: list[tuple[Span, int]] = []
        if self._strings.keys().isdisjoint(ids):
            return found
        for number, (start, end) in zip(ids, spans, strict=True):
            if number not in self._strings:
                continue
            string = text[start:end]
            if number == self._unknown and string.strip() != self._strings[number]:
                continue  # a character that the tokenizer does not know
            start += len(string) - len(string.lstrip())
            found.append(((start, start + len(string.strip())), number))
        return found

    def encoder(self, backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        """The copy of the tokenizer in which control tokens come of their secret names alone; made at the first call.

        Raises UsageError if the tokenizer cannot be copied that way.
        """
        with self._mutex:
            if self._encoder is None:
                self._encoder = self._renamed(backend)
            return self._encoder

    def _renamed(self, backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
        names = {string: self.names[number] for number, string in self._strings.items()}
        record = json.loads(backend.to_str())
        record["truncation"] = record["padding"] = None
        for token in record["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        model = record["model"]
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(token, token): number for token, number in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
        if "merges" in model:
            pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
            model["merges"] = [pair for pair in pairs if not names.keys() & {*pair, "".join(pair)}]
        if model.get("unk_token") is not None:
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        encoder = tokenizers.Tokenizer.from_str(json.dumps(record))
        if any(encoder.token_to_id(name) != number for number, name in self.names.items()):
            raise UsageError(
                "The text spells a control token of the model, and its tokenizer cannot tell the two apart, since the "
                "numbers of its added tokens have gaps: take the control token out of the text."
            )
        return encoder


class _HiddenStrings:
    """Strings for which words that no text can hold by chance stand in a template."""

    def __init__(self) -> None:
        self._secret = secrets.token_hex(12)
        self.strings: list[str] = []

    def hide(self, text: str, spans: Sequence[Span]) -> str:
        """`text` with a word instead of each of the spans, which are in order."""
        parts, end = [], 0
        for start, last in spans:
            parts += [text[end:start], f"{self._secret}x{len(self.strings):08}x"]
            self.strings.append(text[start:last])
            end = last
        return "".join([*parts, text[end:]])

    def restore(self, text: str) -> str:
        """`text` with the strings instead of their words."""
        return re.sub(f"{self._secret}x([0-9]{{8}})x", lambda word: self.strings[int(word.group(1))], text)


_CONTROL_TOKENS: WeakKeyDictionary[tokenizers.Tokenizer, ControlTokens] = WeakKeyDictionary()
_MUTEX = threading.Lock()


def _control_tokens_of(tokenizer: Any) -> ControlTokens:
    backend = _backend(tokenizer)
    with _MUTEX:
        if backend not in _CONTROL_TOKENS:
            _CONTROL_TOKENS[backend] = ControlTokens(backend)
        return _CONTROL_TOKENS[backend]


def _backend(tokenizer: Any) -> tokenizers.Tokenizer:
    backend: tokenizers.Tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
    return backend


def _tokens(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    """The ids that the tokenizer itself gives a text, control tokens included, and the characters of each."""
    if _backend(tokenizer) is tokenizer:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        return encoding.ids, encoding.offsets
    tokens = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return list(tokens["input_ids"]), tokens["offset_mapping"]


def _taken_apart(tokenizer: Any, text: str) -> tuple[list[int], list[Span]]:
    """The tokens of a text that spells control tokens."""
    encoding = _control_tokens_of(tokenizer).encoder(_backend(tokenizer)).encode(text, add_special_tokens=False)
    return encoding.ids, encoding.offsets


def _is_wording(string: str) -> bool:
    """Whether an added token is a word of a domain, or spaces (Gemma has tokens for runs of them), and marks nothing."""
    return all(character.isalnum() or character.isspace() or character == "\u2581" for character in string)


def _unknown_id(backend: tokenizers.Tokenizer) -> int | None:
    """The id of characters that the tokenizer does not know, if it has one."""
    try:
        unknown = backend.model.tokenize("\U0010fffe")
    except Exception:  # a model without such a token; the library raises nothing more particular
        return None
    return int(unknown[0].id) if len(unknown) == 1 else None
