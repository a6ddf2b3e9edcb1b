"""Sessions: conversations that are memories of a library, and go on where they stopped, whatever became of the server.

A session's memory holds its exchanges; they are the transcript. A client may send only its new message, or all that was
written so far: what the memory holds already is not read again. Where a client has changed what was written before, the
session branches: a fork of the memory goes on from the last exchange that both have in common, and the other branch stays.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from memspan.assistant.chat import Exchange, latest_exchanges
from memspan.errors import UnknownMemory
from memspan.memory import Memory, SourceRecord
from memspan.serve.library import Library
from memspan.serve.replies import ApiError

MOST_BRANCHES = 100  # of a session
LONGEST_ID = 512  # characters
_NAME = re.compile(r"session-[0-9a-f]{32}(?:-[0-9]+)?")


def session_name(kind: str, identity: str) -> str:
    """The name of the memory of a session that a client has named; `kind` is how it did."""
    if not 0 < len(identity) <= LONGEST_ID:
        raise ApiError(
            400, f"A session's id must have from 1 to {LONGEST_ID} characters, got {len(identity)}.", param=kind
        )
    named = "\0".join((kind, identity)).encode("utf-8", "replace")
    return f"session-{hashlib.sha256(named).hexdigest()[:32]}"


def is_session(name: str) -> bool:
    """Whether a memory of this name is that of a session."""
    return _NAME.fullmatch(name) is not None


def first_branch(name: str) -> str:
    """The name of a session's first memory, by that of any of its branches: turns of a session follow each other."""
    return "-".join(name.split("-")[:2])


@dataclass(frozen=True)
class Branch:
    """Where a turn goes on.

    Attributes:
        name: of the memory.
        memory: leased for as long as the turn takes.
        new: exchanges that the client sent and the memory does not hold yet, the oldest first.
    """

    name: str
    memory: Memory
    new: tuple[Exchange, ...]


@contextmanager
def continued(library: Library, owner: str, name: str, history: Sequence[Exchange], *, make: bool) -> Iterator[Branch]:
    """Lease the branch of a session that a turn with this history goes on from.

    Args:
        history: the exchanges that the client sent, the oldest first; none where it relies on the session.
        make: whether to make a session that there is not yet.

    Raises:
        UnknownMemory: there is no such session, and none is to be made.
        ApiError: 409 for a session with too many branches.
    """
    if not library.holds(owner, name):
        if not make:
            raise UnknownMemory("There is no such session.")
        library.create(owner, name)
    with ExitStack() as stack:
        stack.enter_context(library.lease(owner, name))  # of the whole session
        branches = {other: _transcript(library, owner, other) for other in branch_names(library, owner, name)}
        chosen, held, new = _match(branches, history) if history else (_latest(branches), None, 0)
        if held is not None:
            chosen = _fork(library, owner, chosen, held, len(branches) + 1)
        memory = stack.enter_context(library.lease(owner, chosen))
        yield Branch(chosen, memory, tuple(history[new:]))


def branch_names(library: Library, owner: str, name: str) -> list[str]:
    """The memories of the branches of a session, the first one first."""
    pattern = re.compile(rf"{re.escape(name)}(?:-([0-9]+))?")
    matches = [match for other in library.names(owner, name) if (match := pattern.fullmatch(other))]
    return [match[0] for match in sorted(matches, key=lambda match: int(match[1] or 0))]


def transcript(library: Library, owner: str, name: str) -> list[Exchange]:
    """The exchanges of the branch of a session that was used last, the oldest first. Raises UnknownMemory."""
    branches = {other: _transcript(library, owner, other) for other in branch_names(library, owner, name)}
    if not branches:
        raise UnknownMemory("There is no such session.")
    return branches[_latest(branches)]


def sources_of(library: Library, owner: str, name: str) -> dict[str, SourceRecord]:
    """The sources of all branches of a session by their names; an exchange has the same in all of them."""
    branches = branch_names(library, owner, name)
    return {source: record for other in branches for source, record in library.open(owner, other).sources.items()}


def until(library: Library, owner: str, name: str, holds: Callable[[SourceRecord], bool]) -> list[Exchange]:
    """The exchanges of a session up to the first that `holds`, that included; none where there is no such exchange."""
    for other in branch_names(library, owner, name):
        sources = library.open(owner, other).sources
        exchanges = _transcript(library, owner, other)
        for number, exchange in enumerate(exchanges, start=1):
            if exchange.source in sources and holds(sources[exchange.source]):
                return exchanges[:number]
    return []


def _transcript(library: Library, owner: str, name: str) -> list[Exchange]:
    return list(reversed(list(latest_exchanges(library.open(owner, name)))))


def _latest(branches: dict[str, list[Exchange]]) -> str:
    """The branch with the latest exchange; the names of exchanges begin with their time."""
    return max(branches, key=lambda name: branches[name][-1].source if branches[name] else "")


def _match(branches: dict[str, list[Exchange]], history: Sequence[Exchange]) -> tuple[str, int | None, int]:
    """The branch to go on from, the exchanges to keep of it where it must be forked, and those of `history` that it has."""
    best: tuple[int, bool, str, int | None] = (-1, False, next(iter(branches)), None)
    for name, transcript in branches.items():
        common = _common(transcript, history)
        if common == 0 and transcript:  # a client that sends only the latest exchanges, as many as its window holds
            common = next((count for count in range(len(history), 0, -1) if _ends_with(transcript, history[:count])), 0)
            is_whole = common > 0
        else:
            is_whole = common == len(transcript)
        best = max(best, (common, is_whole, name, None if is_whole else common), key=lambda found: found[:2])
    common, _, name, held = best
    return name, held, common


def _common(transcript: Sequence[Exchange], history: Sequence[Exchange]) -> int:
    """The number of exchanges at the beginning that are the same."""
    pairs = zip(transcript, history, strict=False)
    different = (index for index, (ours, theirs) in enumerate(pairs) if not _same(ours, theirs))
    return next(different, min(len(transcript), len(history)))


def _ends_with(transcript: Sequence[Exchange], history: Sequence[Exchange]) -> bool:
    end = transcript[len(transcript) - len(history) :] if len(history) <= len(transcript) else []
    return len(end) > 0 and all(_same(ours, theirs) for ours, theirs in zip(end, history, strict=True))


def _same(ours: Exchange, theirs: Exchange) -> bool:
    return (ours.user.strip(), ours.assistant.strip()) == (theirs.user.strip(), theirs.assistant.strip())


def _fork(library: Library, owner: str, name: str, held: int, number: int) -> str:
    """A new branch with the first `held` exchanges of another, and its documents."""
    if number > MOST_BRANCHES:
        raise ApiError(
            409, f"A session can have at most {MOST_BRANCHES} branches: begin a new one.", code="too_many_branches"
        )
    first = first_branch(name)
    names = (f"{first}-{count}" for count in range(number, number + MOST_BRANCHES))
    new = next(other for other in names if not library.holds(owner, other))
    library.fork(owner, name, new)
    with library.lease(owner, new) as memory:
        late = [exchange.source for exchange in _transcript(library, owner, new)[held:]]
        if late:
            memory.replace(late, [])
    return new
