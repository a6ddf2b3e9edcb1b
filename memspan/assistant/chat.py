"""A conversation whose turns become memory: what no longer fits into the window is recalled when it matters."""

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from memspan.assistant.language_model import BUDGET, LanguageModel, RetrievedPassage, within_budget
from memspan.errors import UsageError
from memspan.memory import Memory
from memspan.models.generate import Sampling
from memspan.pretrained.decoding import Prefix

KIND = "exchange"
# Nats per token by which a passage has to make the user's message likelier, to be recalled. On ten turns with SmolLM2
# passages that bore on the turn reached 0.5 to 2.3, and on turns that nothing bore on the best stayed below 0.3, but
# for one at 0.7.
MIN_GAIN = 0.4
TEMPLATE_TOKENS = 8  # tokens that a chat template puts around a message, about


@dataclass(frozen=True)
class Exchange:
    """What the user said and what the model answered; `source` is its name in the memory."""

    source: str
    user: str
    assistant: str

    @property
    def text(self) -> str:
        """The exchange as it is remembered."""
        return f"User: {self.user}\n\nAssistant: {self.assistant}"


class Chat:
    """A conversation in a memory. The exchanges of the memory are the transcript; the chat keeps no other.

    Each turn sees the most recent exchanges word for word, as many as the window holds. Of everything else in the
    memory, older exchanges and documents alike, it sees the passages that make the user's message likelier.
    """

    def __init__(
        self,
        lm: LanguageModel,
        memory: Memory,
        *,
        system: str | None = None,
        sampling: Sampling | None = None,
        budget: int = BUDGET,
    ) -> None:
        """
        Args:
            memory: goes on where it stands; what is said is appended to it.
            system: how the model is to behave; not remembered.
            sampling: how the answers are drawn, and their longest length.
            budget: tokens of recalled text at most.
        """
        self.lm, self.memory, self.system, self.budget = lm, memory, system, budget
        self.sampling = Sampling() if sampling is None else sampling
        self.recalled: tuple[RetrievedPassage, ...] = ()  # for the last turn
        self._prefix: Prefix | None = None
        self._lengths: dict[str, int] = {}  # tokens of an exchange, by source

    @property
    def transcript(self) -> tuple[Exchange, ...]:
        """All exchanges that the memory holds, the oldest first."""
        exchanges = []
        for source in self.memory.sources.values():
            match source.meta.get("turns"):
                case [["user", str(user)], ["assistant", str(assistant)]] if source.kind == KIND:
                    exchanges.append(Exchange(source.name, user, assistant))
        return tuple(exchanges)

    def reply(self, text: str) -> Iterator[str]:
        """The answer, piece by piece. When it ends, or the caller closes it early, the exchange is in the memory.

        Raises:
            UsageError: there is nothing in the text, or it does not fit into the window.
        """
        if not text.strip():
            raise UsageError("There is nothing to answer in an empty message.")
        return self._answer(text, self._prompt(text))

    def forget_last(self) -> Exchange:
        """Forget the last exchange for good. Raises UsageError if there is none."""
        if not self.transcript:
            raise UsageError("Nothing has been said yet that could be forgotten.")
        last = self.transcript[-1]
        self.memory.forget(last.source)
        return last

    def _prompt(self, text: str) -> list[int]:
        """The ids of all that the model sees in this turn."""
        window = self.lm.decoder.window
        room = window - min(self.sampling.max_new_tokens, window // 2)
        alone = len(self._ids([], text))
        if alone > room:
            raise UsageError(f"The message takes {alone} tokens, but the window has room for {room}: shorten it.")
        recall_room = min(self.budget, (room - alone) // 2)
        recent = self._most_recent(room - recall_room - alone)
        names = {exchange.source for exchange in recent}
        found = self.lm.search(self.memory, text, among=lambda passage: passage.source not in names)
        matter = [one for one in found if one.gain is not None and one.gain > MIN_GAIN and one.tokens <= recall_room]
        self.recalled = tuple(within_budget(matter, recall_room))
        ids = self._ids(recent, _with_recalled(text, self.recalled))
        while len(ids) > room and recent:  # lengths were estimates
            recent = recent[1:]
            ids = self._ids(recent, _with_recalled(text, self.recalled))
        return ids

    def _most_recent(self, room: int) -> list[Exchange]:
        """The last exchanges that fit into `room` tokens together, the oldest first."""
        recent: list[Exchange] = []
        for exchange in reversed(self.transcript):
            room -= self._length(exchange)
            if room < 0:
                break
            recent.insert(0, exchange)
        return recent

    def _length(self, exchange: Exchange) -> int:
        if exchange.source not in self._lengths:
            tokens = self.lm.tokenizer(exchange.text, add_special_tokens=False, verbose=False)["input_ids"]
            self._lengths[exchange.source] = len(tokens) + 2 * TEMPLATE_TOKENS
        return self._lengths[exchange.source]

    def _ids(self, exchanges: Sequence[Exchange], text: str) -> list[int]:
        messages = [] if self.system is None else [{"role": "system", "content": self.system}]
        for exchange in exchanges:
            messages.append({"role": "user", "content": exchange.user})
            messages.append({"role": "assistant", "content": exchange.assistant})
        return self.lm.prompt_ids([*messages, {"role": "user", "content": text}])

    def _answer(self, text: str, ids: Sequence[int]) -> Generator[str, None, None]:
        prefix, self._prefix = self._prefix, None  # whoever decodes uses it up
        tokens: list[int] = []
        said = ""
        try:
            decoding = self.lm.decoder.generate(ids, self.sampling, prefix)
            while True:
                try:
                    tokens.append(next(decoding))
                except StopIteration as end:
                    self._prefix = end.value
                    break
                grown = self.lm.tokenizer.decode(tokens, skip_special_tokens=True)
                if not grown.endswith("\ufffd"):  # else half a character: the next token may complete it
                    piece, said = grown[len(said) :], grown
                    yield piece
        except (GeneratorExit, KeyboardInterrupt):
            if said:
                self._keep(text, said)
            raise
        self._keep(text, self.lm.tokenizer.decode(tokens, skip_special_tokens=True))

    def _keep(self, user: str, assistant: str) -> None:
        exchange = Exchange(self._free_name(), user, assistant.strip())
        turns = [["user", exchange.user], ["assistant", exchange.assistant]]
        self.lm.remember(self.memory, exchange.text, source=exchange.source, kind=KIND, turns=turns)

    def _free_name(self) -> str:
        """`chat/` and the time, which a clock that was set back may have shown before."""
        name = taken = f"chat/{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
        count = 1
        while name in self.memory.sources:
            count += 1
            name = f"{taken} ({count})"
        return name


def _with_recalled(text: str, recalled: Sequence[RetrievedPassage]) -> str:
    """The user's message, preceded by what was recalled: quoted, as data, never as an instruction."""
    if not recalled:
        return text
    quoted = "\n\n".join(one.text.strip() for one in recalled)
    quoted = "\n".join(f"> {line}".rstrip() for line in quoted.splitlines())
    return f"From my notes, for reference:\n\n{quoted}\n\n{text}"
