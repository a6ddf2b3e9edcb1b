"""How long the sources of a memory are kept: rules that stand in its folder, and forgetting what is older.

The rules are in the file retention.json beside the manifest. A fork has those of its original.
"""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from numbers import Real
from typing import Any, Final

from memspan.errors import DamagedMemory, NoMatch, UsageError, require_type
from memspan.memory.filter import Filter, checked_tags
from memspan.memory.memory import Memory
from memspan.memory.store.files import WAY_OUT
from memspan.memory.store.folder import Folder
from memspan.memory.store.records import strict_json
from memspan.memory.view import Contents

DAY: Final = 86_400  # seconds
LONGEST: Final = 36_525  # days: a century
MOST_RULES: Final = 100


@dataclass(frozen=True)
class Rule:
    """Sources that meet the conditions are kept for so many days from when they were first read.

    Attributes:
        days: above 0.
        sources, kinds, where: as of `memspan.Filter`; without any of them the rule is about all sources.
    """

    days: float
    sources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    where: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises UsageError for values of another type, and days that are none."""
        require_type("days", self.days, Real, "a number")
        if isinstance(self.days, bool) or not 0 < self.days <= LONGEST:
            raise UsageError(f"`days` must be above 0 and at most {LONGEST:,}, got {self.days}.")
        conditions = Filter(self.sources, kinds=self.kinds, where=self.where)
        object.__setattr__(self, "sources", tuple(conditions.sources))
        object.__setattr__(self, "kinds", tuple(conditions.kinds))
        object.__setattr__(self, "where", checked_tags(self.where))

    @property
    def conditions(self) -> tuple[Any, ...]:
        """What says which sources it is about: two rules with the same conditions contradict each other."""
        where = {key: value if isinstance(value, list) else [value] for key, value in self.where.items()}
        return sorted(self.sources), sorted(self.kinds), json.dumps(where, sort_keys=True)

    def selection(self, now: float) -> dict[str, Any]:
        """The arguments of `Memory.forget` for what is too old at `now`, in unix seconds."""
        chosen = Filter(self.sources, kinds=self.kinds, where=self.where)
        return {"before": now - self.days * DAY, "filter": chosen or None}

    def __str__(self) -> str:
        parts = [f"source {source}" for source in self.sources] + [f"kind {kind}" for kind in self.kinds]
        for key, value in self.where.items():
            parts += [f"{key}={each}" for each in (value if isinstance(value, list) else [value])]
        days = f"{self.days:g} day" + ("" if self.days == 1 else "s")
        return f"{', '.join(parts) or 'all sources'}: {days}"


def rules_of(folder: Folder) -> list[Rule]:
    """The rules of the memory in a folder; none where it has none. Raises DamagedMemory for what memspan did not write."""
    raw = folder.read_retention()
    if raw is None:
        return []
    try:
        content = strict_json(raw)
        if not isinstance(content, dict) or content.keys() != {"rules"} or not isinstance(content["rules"], list):
            raise ValueError("its only field must be a list of rules")
        if len(content["rules"]) > MOST_RULES:
            raise ValueError(f"it must have at most {MOST_RULES} rules")
        return [_rule(each) for each in content["rules"]]
    except (ValueError, TypeError, RecursionError, UsageError) as error:
        path = folder.path / "retention.json"
        raise DamagedMemory(f"{path} holds no rules of retention: {str(error).rstrip('.')}. {WAY_OUT}") from error


def keep_rules(folder: Folder, rules: Sequence[Rule]) -> None:
    """Make these the rules of the memory in a folder, durably; its lock is held meanwhile. Raises UsageError for too many."""
    if len(rules) > MOST_RULES:
        raise UsageError(f"A memory has at most {MOST_RULES} rules of retention, got {len(rules)}.")
    folder.manifest()  # there is a memory
    content = {"rules": [{**asdict(rule), "where": dict(rule.where)} for rule in rules]}
    with folder.lock():
        folder.write_retention(json.dumps(content, ensure_ascii=False, indent=1).encode() + b"\n" if rules else None)


def expired(contents: Contents, rules: Sequence[Rule], now: float | None = None) -> list[str]:
    """The names of the sources that are older than a rule about them lets them be, in order of first appearance."""
    moment, found = time.time() if now is None else now, set[str]()
    for rule in rules:
        with suppress(NoMatch):
            found.update(contents.matching(**rule.selection(moment)))
    return [name for name in contents.sources if name in found]


def forget_expired(memory: Memory, rules: Sequence[Rule], now: float | None = None) -> list[str]:
    """Forget, for good, the sources that are older than a rule about them lets them be; their names.

    Raises MemspanError and MemoryLocked as `Memory.forget` does.
    """
    moment, forgotten = time.time() if now is None else now, list[str]()
    for rule in rules:
        with suppress(NoMatch):
            forgotten += memory.forget(**rule.selection(moment))
    return forgotten


def _rule(fields: Any) -> Rule:
    if not isinstance(fields, dict) or fields.keys() != {"days", "sources", "kinds", "where"}:
        raise ValueError("the fields of a rule must be days, kinds, sources and where")
    if not all(isinstance(fields[name], list) for name in ("sources", "kinds")):
        raise ValueError("sources and kinds must be lists")
    return Rule(fields["days"], tuple(fields["sources"]), tuple(fields["kinds"]), fields["where"])
