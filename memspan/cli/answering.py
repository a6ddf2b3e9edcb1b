"""The options of the commands that answer: what writes the answer, and how its tokens are chosen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from memspan.cli.commands import adds_options
from memspan.cli.output import print_info

if TYPE_CHECKING:
    from memspan.assistant.answerers.base import Answerer
    from memspan.models.generate import Sampling


@dataclass(frozen=True)
class Answering:
    """How an answer is written; the fields are options."""

    answer_with: Annotated[
        str | None,
        typer.Option(
            metavar="URL[#MODEL]|FILE",
            help="What writes the answer, while the language model still reads and searches: a server with an "
            "OpenAI-compatible API such as http://localhost:8080/v1, or a .gguf file (extra gguf). A server gets the "
            "question and the retrieved text, and the key in $MEMSPAN_API_KEY, else $OPENAI_API_KEY (default: the language "
            "model writes the answer).",
            rich_help_panel="Answer",
        ),
    ] = None
    temperature: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="T",
            help="Sampling temperature: 0 always takes the most likely token, higher values vary more.",
            rich_help_panel="Answer",
        ),
    ] = 0.0
    top_p: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Draw from the most likely tokens that have this probability together; needs a temperature above 0.",
            rich_help_panel="Answer",
        ),
    ] = 1.0
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Random seed of sampling, for repeatable answers (default: none).",
            rich_help_panel="Answer",
        ),
    ] = None

    repetition_penalty: Annotated[
        float,
        typer.Option(
            metavar="R",
            help="Makes tokens less likely that the answer holds already: 1 does not, 1.1 does a little; of the language "
            "model, not of a server.",
            rich_help_panel="Answer",
        ),
    ] = 1.0

    def sampling(self, max_new_tokens: int) -> "Sampling":
        """The sampling settings that the options select."""
        from memspan.models.generate import Sampling

        return Sampling(max_new_tokens, self.temperature, self.top_p, self.seed, self.repetition_penalty)

    def answerer(self) -> "Answerer | None":
        """What writes the answer; None for the language model. Raises UsageError if it cannot be one."""
        if self.answer_with is None:
            return None
        from memspan.assistant.answerers import answerer_of

        return answerer_of(self.answer_with, print_info)


answers = adds_options(Answering, "answering")
