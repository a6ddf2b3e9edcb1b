"""Which text of a prompt carried an answer: how much less likely the answer is without it (leaving one out).

This is the ablation by which contributions of retrieved texts are defined (Cohen-Wang et al. 2024, ContextCite), one text at
a time; a surrogate model over random subsets, as in the paper, pays only with many texts. Two texts that say the same carry
the answer together, and neither by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from memspan.assistant import prompts
from memspan.assistant.prompt_choice import in_reading_order
from memspan.assistant.retriever import Retriever
from memspan.data.plain_text import plain_ids

if TYPE_CHECKING:
    from memspan.assistant.answer import Answer


@dataclass(frozen=True)
class Carried:
    """What a text of the prompt does for the answer.

    Attributes:
        number: of the text, as `[n]` cites it.
        passages: the positions, from 0, of the passages of the answer that it holds.
        gain: nats per token by which the answer is likelier with the text than without it.
    """

    number: int
    passages: tuple[int, ...]
    gain: float


def carried_by(retriever: Retriever, tokenizer: Any, question: str, answer: "Answer") -> tuple[Carried, ...]:
    """The texts of the prompt of an answer, those without which it is least likely first.

    The likelihood is that of the local model, whatever has written the answer. It reads the prompt once for each text, and
    once with all: with several texts that takes longer than the answer. Empty where nothing was written, or where the window
    of the local model does not hold the prompt and the answer.
    """
    answer_ids = plain_ids(tokenizer, answer.text)
    if not answer.is_answered or not answer_ids:
        return ()
    texts = in_reading_order(answer.passages)

    def prompt(quoted: Sequence[prompts.Quotation]) -> list[int]:
        message = prompts.question_message(question, quoted)
        return [*prompts.prompt_ids(tokenizer, [{"role": "user", "content": message}]), *answer_ids]

    rows = [prompt(texts), *(prompt([*texts[:index], *texts[index + 1 :]]) for index in range(len(texts)))]
    if max(map(len, rows)) > retriever.window:
        return ()
    whole, *without = (retriever.mean_log_likelihoods([row], len(answer_ids))[0] for row in rows)
    carried = [
        Carried(number, tuple(at for at, of in enumerate(answer.numbers) if of == number), whole - less)
        for number, less in enumerate(without, start=1)
    ]
    return tuple(sorted(carried, key=lambda text: -text.gain))
