"""Continuing a text token by token, with the likelihood of each token: what /v1/completions does in the engine's thread.

Letters: S tokens, V vocabulary.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from memspan.assistant.language_model import LanguageModel
from memspan.assistant.streaming import StreamedText
from memspan.data.plain_text import conversation_ids
from memspan.errors import UsageError
from memspan.models.generate import Sampling
from memspan.pretrained.batched import PENDING
from memspan.pretrained.placement import input_device


@dataclass(frozen=True)
class Continuation:
    """A text that goes on.

    Attributes:
        text: behind the prompt, up to the first stop text.
        reason: "stop" or "length".
        prompt_ids, ids: of the prompt, and of the tokens behind it.
    """

    text: str
    reason: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]


def text_ids(lm: LanguageModel, text: str) -> list[int]:
    """The ids of a text with the tokens that the tokenizer puts around every text; its contents add no control tokens."""
    message = [{"role": "user", "content": text}]
    return conversation_ids(lm.tokenizer, message, lambda messages: messages[0]["content"], add_special_tokens=True)


def ids_of(lm: LanguageModel, prompt: str | Sequence[int]) -> list[int]:
    """The ids of a text, behind the token that begins every text of the model; or ids as they are.

    Raises UsageError for ids that are not the model's, and for a prompt that leaves no room in the window.
    """
    ids = text_ids(lm, prompt) if isinstance(prompt, str) else list(prompt)
    size = lm.causal_lm.get_input_embeddings().num_embeddings
    if any(not 0 <= token < size for token in ids):
        raise UsageError(f"Token ids must be from 0 to {size - 1}.")
    if not 0 < len(ids) <= lm.decoder.window:
        raise UsageError(f"A prompt must have from 1 to {lm.decoder.window:,} tokens, got {len(ids):,}.")
    return ids


def continued_text(
    lm: LanguageModel, ids: Sequence[int], sampling: Sampling | None, stops: Sequence[str]
) -> Generator[str | Continuation, None, None]:
    """Yields the parts of the text that follows `ids`, and the continuation. Without a sampling, nothing follows.

    A part is empty where others may have their turn.
    """
    written, shown = StreamedText(lm.tokenizer), 0
    limit = 0 if sampling is None else min(sampling.max_new_tokens, lm.decoder.window - len(ids))
    tokens = () if sampling is None else lm.decoder.generate(ids, sampling)
    cut: int | None = None
    longest = max(map(len, stops), default=1) - 1  # characters that may be the beginning of a stop text
    for token in tokens:
        if token == PENDING:
            yield ""
            continue
        written.append(token)
        text = written.text
        found = [start for stop in stops if (start := text.find(stop)) >= 0]
        if found:
            cut = min(found)
            break
        end = len(text.rstrip("\ufffd")) - longest
        if end > shown:
            yield text[shown:end]
            shown = end
    text = written.text if cut is None else written.text[:cut]
    if text[shown:]:
        yield text[shown:]
    reason = "length" if cut is None and len(written.tokens) >= limit else "stop"
    yield Continuation(text, reason, tuple(ids), tuple(written.tokens))


@torch.inference_mode()
def likelihoods(lm: LanguageModel, continuation: Continuation, top: int, echo: bool) -> dict[str, Any]:
    """The log-probability of each token given those before it, and of the `top` likeliest, as the API has it.

    Of the tokens behind the prompt, or with `echo` of the prompt's too, of which the first has none.
    """
    prompt = len(continuation.prompt_ids)
    ids = [*continuation.prompt_ids, *continuation.ids]
    device = input_device(lm.causal_lm)
    first = 0 if echo else prompt
    logits = lm.causal_lm(input_ids=torch.tensor([ids], device=device), use_cache=False).logits[0]  # (S, V)
    texts = [lm.tokenizer.decode([token]) for token in ids]
    out: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
    offset = 0
    for index in range(first, len(ids)):
        out["tokens"].append(texts[index])
        out["text_offset"].append(offset)
        offset += len(texts[index])
        if index == 0:
            out["token_logprobs"].append(None)
            out["top_logprobs"].append(None)
            continue
        row = logits[index - 1].float().log_softmax(-1)
        best = row.topk(min(top, len(row)))
        likeliest = {
            lm.tokenizer.decode([token]): value
            for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        }
        value = float(row[ids[index]])
        out["token_logprobs"].append(value)
        out["top_logprobs"].append({**likeliest, texts[index]: value})
    return out
