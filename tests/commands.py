"""What a command printed, and how it left."""

from collections.abc import Callable
from typing import NamedTuple


class Outcome(NamedTuple):
    """Of one command."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one line in which it says what is wrong."""
        assert self.code in (1, 2), self
        lines = self.err.strip().splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "unexpected" not in self.err
        assert "Traceback" not in self.err
        return lines[0]


Run = Callable[..., Outcome]
