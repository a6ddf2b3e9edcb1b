"""Prompts to the character: retrieved text is data in the user's message."""

from typing import Any

from memspan.assistant.prompts import INSTRUCTION, chat_message, prompt_ids, question_message


class Plain:
    """A tokenizer without a chat template, whose ids are code points."""

    chat_template = None

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": list(map(ord, text))}


class Templated(Plain):
    """A tokenizer with a chat template, which notes what it is called with."""

    chat_template = "a template"

    def apply_chat_template(self, messages: list[dict[str, str]], **settings: Any) -> dict[str, list[int]]:
        self.call = (messages, settings)
        return {"input_ids": [7]}


def test_a_question_stands_before_and_behind_the_texts() -> None:
    assert question_message("Who?", [" One. ", "Two.\n"]) == (
        "Who?\n\nOne.\n\nTwo.\n\nAnswer from the text above, in a few words: Who?"
    )
    assert question_message("Who?", ["One."], "In one word: {question}") == "Who?\n\nOne.\n\nIn one word: Who?"
    assert INSTRUCTION.format(question="Who?").endswith(": Who?")


def test_a_chat_quotes_line_by_line() -> None:
    assert chat_message("Who?", []) == "Who?"
    assert chat_message("Who?", ["One.\n\nTwo. \n", "Three."]) == (
        "From my notes, for reference:\n\n> One.\n>\n> Two.\n>\n> Three.\n\nWho?"
    )


def test_without_a_template_roles_are_written_out() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who?"}]
    text = "".join(map(chr, prompt_ids(Plain(), messages)))
    assert text == "System: Be brief.\n\nUser: Who?\n\nAssistant:"


def test_a_template_is_used_where_there_is_one() -> None:
    tokenizer, messages = Templated(), [{"role": "user", "content": "Who?"}]
    assert prompt_ids(tokenizer, messages) == [7]
    assert tokenizer.call == (messages, {"add_generation_prompt": True, "return_dict": True})
