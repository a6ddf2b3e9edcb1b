"""Calibration of the prompt budget: how many passages a model can read and still find the one that it needs.

Invented facts, each in a passage of invented prose, are asked for with ever more passages in the prompt: those of other
facts about the same people first, which distract the most. The right one stands at another position each time.
"""

import random
from collections.abc import Callable, Sequence

from memspan.assistant import prompts
from memspan.assistant.answerers.base import Answerer, window_of
from memspan.assistant.prompt_budget import (
    MAX_SCORE_GAP,
    MOST_TOKENS,
    MOST_TOKENS_ON_CPU,
    PASSAGE_TOKENS,
    SMALL_PASSAGES,
    WINDOW_SHARE,
    PromptBudget,
)
from memspan.data.plain_text import Message
from memspan.memory.index.probe_corpus import Needle, haystack
from memspan.models.generate import Sampling

QUESTIONS, SEED = 12, 21
ANSWER_TOKENS = 24
KEPT = 0.8  # of the right answers with fewer passages, which a model keeps with as many as it can use


def calibrate_budget(
    answerer: Answerer, progress: Callable[[float], None] | None = None, *, on_cpu: bool = True
) -> PromptBudget | None:
    """The budget with the most passages, 1, 2, 4 and so on, at which a model still answers; None if it never does.

    The numbers end where answers get worse, at a share of the window, and at what a prompt has at most. With the embedded
    model it takes about a minute on one core.

    Args:
        progress: called with the share of the work that is done, 0 to 1.
        on_cpu: the answerer reads prompts on a CPU.
    """
    progress = progress or (lambda _: None)
    most = min(MOST_TOKENS_ON_CPU if on_cpu else MOST_TOKENS, int(WINDOW_SHARE * window_of(answerer))) // PASSAGE_TOKENS
    counts = [2**power for power in range(max(1, most).bit_length())]
    texts, needles = haystack(max(QUESTIONS, counts[-1]), QUESTIONS, SEED)
    usable, best, read = 0, 0, 0
    for count in counts:
        right = 0
        for number, needle in enumerate(needles):
            right += _is_right(answerer, needle, _passages(texts, needles, number, count))
            read += count
            progress(read / (QUESTIONS * sum(counts)))
        if right == 0 or right < KEPT * best:
            break
        usable, best = count, max(best, right)
    progress(1.0)
    if usable == 0:
        return None
    gap = MAX_SCORE_GAP if usable < SMALL_PASSAGES else None
    return PromptBudget(max(2, usable) * PASSAGE_TOKENS, usable, gap)


def _passages(texts: Sequence[str], needles: Sequence[Needle], number: int, count: int) -> list[str]:
    """`count` texts with that of a needle: next to it the texts of the needles nearest to it, then the others."""
    near = sorted(range(len(needles)), key=lambda other: abs(other - number))
    order = [needles[other].passage for other in near]
    order += [passage for passage in range(len(texts)) if passage not in order]
    chosen = [texts[passage] for passage in order[:count]]
    random.Random(number).shuffle(chosen)
    return chosen


def _is_right(answerer: Answerer, needle: Needle, passages: Sequence[str]) -> bool:
    quoted = [prompts.Quotation(f"text-{number}", text) for number, text in enumerate(passages)]
    messages: list[Message] = [{"role": "user", "content": prompts.question_message(needle.question, quoted)}]
    answer = "".join(answerer.answer(messages, Sampling(max_new_tokens=ANSWER_TOKENS)))
    return needle.answer.casefold() in answer.casefold()
