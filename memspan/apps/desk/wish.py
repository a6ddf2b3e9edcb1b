"""What a summary is to be."""

from dataclasses import dataclass, field

from memspan.models.generate import Sampling

WORDS = 200  # of a summary, about


@dataclass(frozen=True)
class Wish:
    """What a summary is to be.

    Attributes:
        about: a question that it answers; empty for a summary of everything.
        words: about so many; characters of scripts without spaces count as words.
        sampling: how an answerer writes it; the number of tokens follows from the words.
    """

    about: str = ""
    words: int = WORDS
    sampling: Sampling = field(default_factory=Sampling)
