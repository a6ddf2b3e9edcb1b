"""How much retrieved text a model can use: a calibration of the model, or a default by its size and window."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from memspan.pretrained.calibrations import Calibration

# Only the numbers of a small model are measured, with the embedded model, see LOG.md. The others are set, not measured: no
# larger model was at hand.
SMALL_MODEL = 300_000_000  # parameters below which further passages are taken to distract a model
MIDDLE_MODEL = 1_000_000_000
SMALL_TOKENS = 640  # of retrieved text, for a small model
SMALL_PASSAGES = 8
MIDDLE_TOKENS = 1280
MOST_TOKENS = 4096
MOST_TOKENS_ON_CPU = 2048  # a CPU reads a prompt slowly
WINDOW_SHARE = 0.25  # of the window, for retrieved text
PASSAGE_TOKENS = 128  # of a passage of medium length
MAX_SCORE_GAP = 2.0  # a passage that scores further below the best distracts a small model more than it helps


@dataclass(frozen=True)
class PromptBudget(Calibration):
    """The retrieved text that a model can use.

    Attributes:
        tokens: of retrieved text in a prompt, at most.
        passages: in a prompt, at most.
        max_score_gap: a passage that scores further below the best is left out; None leaves out none for its score.
    """

    kind = "budget"

    tokens: int
    passages: int
    max_score_gap: float | None = None

    @classmethod
    def parse(cls, record: Mapping[str, Any]) -> Self:
        """The budget of a file. Raises ValueError, TypeError or KeyError for anything else."""
        tokens, passages, gap = record["tokens"], record["passages"], record["max_score_gap"]
        if type(tokens) is not int or type(passages) is not int or min(tokens, passages) < 1:
            raise ValueError("tokens and passages must be whole numbers of at least 1")
        if gap is not None and not float(gap) >= 0:
            raise ValueError("the score gap must be at least 0, or null")
        return cls(tokens, passages, None if gap is None else float(gap))

    def limited(self, tokens: int | None, passages: int | None) -> "PromptBudget":
        """The budget with the limits that a user sets; each takes the place of the model's.

        A number of passages is what the user wants to be read: no score gap counts then, and without a number of tokens
        there is room for passages of twice the medium length.
        """
        if passages is not None:
            room = max(self.tokens, 2 * PASSAGE_TOKENS * passages) if tokens is None else tokens
            return PromptBudget(room, passages, None)
        if tokens is not None:
            return PromptBudget(tokens, max(self.passages, tokens // PASSAGE_TOKENS), self.max_score_gap)
        return self


def default_budget(window: int, parameters: int | None = None, *, on_cpu: bool = False) -> PromptBudget:
    """The budget of a model that was not calibrated.

    A small model gets the best passage and what scores near it. A larger one gets a share of its window.

    Args:
        window: tokens.
        parameters: of the model; None for one behind an engine, which is taken for a large one.
        on_cpu: it reads prompts on a CPU.
    """
    if parameters is not None and parameters < SMALL_MODEL:
        return PromptBudget(SMALL_TOKENS, SMALL_PASSAGES, MAX_SCORE_GAP)
    most = MOST_TOKENS_ON_CPU if on_cpu else MOST_TOKENS
    if parameters is not None and parameters < MIDDLE_MODEL:
        most = MIDDLE_TOKENS
    tokens = min(most, max(SMALL_TOKENS, int(WINDOW_SHARE * window)))
    return PromptBudget(tokens, tokens // PASSAGE_TOKENS)
