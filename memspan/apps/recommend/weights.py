"""How much an event counts: by its type, and by a rating."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from memspan.apps.recommend.tables import EventRow
from memspan.errors import UsageError

# Of the types, or parts of them, that events are known to have: what takes more effort, or money, counts more.
DEFAULTS = {
    "dislike": 0.0,
    "view": 1.0,
    "click": 1.0,
    "open": 1.0,
    "play": 1.0,
    "watch": 1.0,
    "read": 1.0,
    "rat": 1.0,
    "like": 2.0,
    "favo": 2.0,
    "save": 2.0,
    "comment": 2.0,
    "review": 2.0,
    "cart": 2.0,
    "share": 3.0,
    "buy": 3.0,
    "purchase": 3.0,
    "order": 3.0,
    "不喜欢": 0.0,
    "浏览": 1.0,
    "点击": 1.0,
    "评分": 1.0,
    "点赞": 2.0,
    "收藏": 2.0,
    "评论": 2.0,
    "分享": 3.0,
    "购买": 3.0,
}
OTHER = 1.0  # of a type that is not known
MOST = 1000.0


@dataclass(frozen=True)
class Weights:
    """How much events count.

    Attributes:
        of_type: the weights of types that a user has set.
        highest_rating: that is known; a rating counts as a share of it. 0 where there are no ratings.
    """

    of_type: Mapping[str, float] = field(default_factory=dict)
    highest_rating: float = 0.0

    def type_weight(self, name: str) -> float:
        """The weight of a type of events, in lower case."""
        if name in self.of_type:
            return self.of_type[name]
        return next((weight for part, weight in DEFAULTS.items() if part in name), OTHER)

    def weight(self, event: EventRow) -> float:
        """How much an event counts, from 0: the weight of its type, times the share of the highest rating that it gives."""
        weight = self.type_weight(event.type)
        if event.rating is None or not self.highest_rating:
            return weight
        return weight * min(1.0, event.rating / self.highest_rating)

    def unknown(self, types: Sequence[str]) -> list[str]:
        """Those of the types that count as `OTHER` because nothing is known of them."""
        return [
            name for name in types if name and name not in self.of_type and not any(part in name for part in DEFAULTS)
        ]


def parse_weights(texts: Sequence[str]) -> dict[str, float]:
    """The weights in texts like "share=5". Raises UsageError for any other text."""
    found = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if not equals or not name.strip() or not 0 <= weight <= MOST:
            raise UsageError(f"--weight must be like share=5, with a number from 0 to {MOST:.0f}, got '{text}'.")
        found[name.strip().casefold()] = weight
    return found
