"""Periods of time in UTC: hours, days and weeks that begin on Monday, each with a number."""

from dataclasses import dataclass
from datetime import UTC, datetime

from memspan.errors import UsageError

LENGTHS = {"hour": 3600, "day": 86400, "week": 7 * 86400}
_FIRST_MONDAY = 4 * 86400  # 5 January 1970


@dataclass(frozen=True)
class Periods:
    """The periods of a length, the key of `LENGTHS`."""

    name: str

    def __post_init__(self) -> None:
        if self.name not in LENGTHS:
            raise UsageError(f"The period must be one of {', '.join(LENGTHS)}, got '{self.name}'.")

    @property
    def seconds(self) -> int:
        return LENGTHS[self.name]

    @property
    def _origin(self) -> int:
        return _FIRST_MONDAY if self.name == "week" else 0

    def number(self, seconds: float) -> int:
        """The number of the period that this moment, in unix seconds, is in."""
        return int((seconds - self._origin) // self.seconds)

    def begin(self, number: int) -> int:
        """The first unix second of a period."""
        return number * self.seconds + self._origin

    def label(self, number: int) -> str:
        """The date of a period, with the hour where there are several in a day."""
        moment = datetime.fromtimestamp(self.begin(number), UTC)
        return f"{moment:%Y-%m-%d %H:00}" if self.name == "hour" else f"{moment:%Y-%m-%d}"
