"""Prompts: messages around retrieved text, and their token ids in the model's chat template.

Retrieved text always stands in the user's message, as data, never as an instruction.
"""

from collections.abc import Sequence
from typing import Any

INSTRUCTION = "Answer from the text above, in a few words: {question}"


def question_message(question: str, texts: Sequence[str], instruction: str = INSTRUCTION) -> str:
    """The user's message for a question: the question, the retrieved texts, and the instruction with the question."""
    quoted = "\n\n".join(text.strip() for text in texts)
    return f"{question}\n\n{quoted}\n\n{instruction.format(question=question)}"


def chat_message(message: str, texts: Sequence[str]) -> str:
    """The user's message of a chat behind the retrieved texts, quoted line by line; unchanged if there are none."""
    if not texts:
        return message
    joined = "\n\n".join(text.strip() for text in texts)
    quoted = "\n".join(f"> {line}".rstrip() for line in joined.splitlines())
    return f"From my notes, for reference:\n\n{quoted}\n\n{message}"


def likelihood_prefix(text: str) -> str:
    """The prompt behind which the likelihood of a question is computed, given `text`."""
    return f"{text.strip()}\n\nQuestion answered by this text:"


def prompt_ids(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """The ids of a conversation up to where the answer begins, in the chat template if the tokenizer has one.

    Args:
        messages: dictionaries with "role" and "content".
    """
    if getattr(tokenizer, "chat_template", None) is None:
        turns = [f"{message['role'].capitalize()}: {message['content']}" for message in messages]
        return list(tokenizer("\n\n".join(turns) + "\n\nAssistant:")["input_ids"])
    encoding = tokenizer.apply_chat_template(list(messages), add_generation_prompt=True, return_dict=True)
    return list(encoding["input_ids"])
