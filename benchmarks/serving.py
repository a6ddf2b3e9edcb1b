"""What a server costs, and what it gains where several clients ask at once; all speeds as ratios within one run.

    python -m benchmarks.serving [--size small] [--only first-token]

`memspan serve` runs as a process of its own with the model smollm2; the clients are threads of this program. Greedy throughout.

1. Eight streams at once over the same eight one after the other: tokens a second of whole requests, the reading of their
   prompts included. The rounds of both take turns. Every text must be the same in both, and in the library.
2. The streams one after the other over memspan.Chat in this process, with the same messages and settings.
3. The time to the first token of a question to a memory of 100,000 tokens, over that of a request without a memory whose
   prompt has as many tokens: what is searched, and what is recalled. Also over that of one whose prompt holds the question and as
   many tokens as may be recalled at most.
4. Sessions at once, each with a secret word that it was given in a message and another in a memory of its own: in how many of
   the replies and recalled passages the word of another session stands, which must be none.

It needs processors of its own, and Linux, which says how long a process has used them.
"""

import argparse
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai

from benchmarks import report
from benchmarks.decoding import ratio_row
from benchmarks.report import DATA, needs
from memspan import Chat, Sampling

STREAMS, NEW, MEMORY = 8, 96, 100_000
SIZES = {"small": (1, 3, 8, 20_000), "full": (3, 12, 64, MEMORY)}  # rounds, questions, sessions, tokens of the memory
AT_ONCE = 16  # sessions
SEED = 24
PROMPTS = [
    "Write a short story about a lighthouse keeper.",
    "Explain how bread is made.",
    "Describe a walk through a forest in autumn.",
    "Give advice to a student who learns to play the piano.",
    "Tell me about the moon.",
    "Write a letter to a friend who has moved to another city.",
    "Explain why the sea is salty.",
    "Describe the work of a watchmaker.",
]
QUESTIONS = [
    "Who is Edmond Dantes?",
    "Who is Mercedes?",
    "What is the Pharaon?",
    "Who is Fernand?",
    "Where is the Chateau d'If?",
    "Who is the Abbe Faria?",
    "Who is Danglars?",
    "What does Caderousse drink?",
    "Who is Monsieur Morrel?",
    "Who is Villefort?",
    "Where does old Dantes live?",
    "What is on the island of Elba?",
]


@dataclass(frozen=True)
class Streamed:
    """A reply: its text, its tokens and those of its prompt, the passages, and the seconds to its first part and to its end."""

    text: str
    tokens: int
    prompt_tokens: int
    recalled: list[str]
    first: float
    whole: float


@contextmanager
def served(root: Path) -> Iterator[tuple[openai.OpenAI, Path]]:
    """A client of a server process, and what Linux says of that process."""
    command = [sys.executable, "-m", "memspan", "serve", str(root), "--port", "0", "--model", "smollm2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = next(filter(None, (re.match(r"(http://\S+/v1) serves ", line) for line in process.stderr)))[1]
        with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=600) as client:
            yield client, Path("/proc", str(process.pid), "stat")
    finally:
        process.terminate()
        process.wait()


def streamed(client: openai.OpenAI, message: str, tokens: int = NEW, **options: Any) -> Streamed:
    """The reply to a message, as it comes."""
    begun = time.perf_counter()
    first, parts, recalled, usage = 0.0, [], [], None
    for chunk in client.chat.completions.create(
        model=options.pop("model", "smollm2"),
        messages=[{"role": "user", "content": message}],
        max_tokens=tokens,
        stream=True,
        stream_options={"include_usage": True},
        **options,
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            if choice.delta.content:
                first = first or time.perf_counter() - begun
                parts.append(choice.delta.content)
            if choice.finish_reason is not None:
                recalled = [passage["text"] for passage in chunk.model_extra["memory"]["recalled"]]
    assert usage is not None
    whole = time.perf_counter() - begun
    return Streamed("".join(parts), usage.completion_tokens, usage.prompt_tokens, recalled, first, whole)


class Clock:
    """Seconds by the clock, and of the processors as the server and this process used them, since it was made."""

    def __init__(self, server: Path) -> None:
        self._server, self._begun = server, (0.0, 0.0)
        self._begun = self.seconds

    @property
    def seconds(self) -> tuple[float, float]:
        ticks = sum(map(int, self._server.read_text("utf-8").rpartition(")")[2].split()[11:13]))
        cpu = ticks / os.sysconf("SC_CLK_TCK") + time.process_time()
        return time.perf_counter() - self._begun[0], cpu - self._begun[1]


def streams(
    client: openai.OpenAI, server: Path, lm: Any, rounds: int, new: int = NEW
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The ratios of 1 and 2, with the speeds of each round and the texts that are not the same."""
    together, alone, ours = "eight at once", "each after the other", "the library"
    speeds: dict[str, list[tuple[float, float]]] = {together: [], alone: [], ours: []}
    different: list[dict[str, str]] = []

    def from_server(prompt: str) -> tuple[str, int]:
        reply = streamed(client, prompt, new)
        return reply.text, reply.tokens

    def from_library(prompt: str) -> tuple[str, int]:
        chat = Chat(lm, lm.new_memory(), sampling=Sampling(new))
        usage: list[Any] = []

        def parts() -> Iterator[str]:
            usage.append((yield from chat.parts(prompt, chat.messages(prompt))))

        text = "".join(parts()).strip()
        return text, usage[0].answer_tokens

    def timed(name: str, replies: Callable[[], Iterable[tuple[str, int]]]) -> list[str]:
        clock, written = Clock(server), list(replies())
        wall, cpu = clock.seconds
        tokens = sum(count for _, count in written)
        speeds[name].append((tokens / wall, tokens / cpu))
        print(f"{name}: {tokens / wall:.2f} tokens/s, {tokens / cpu:.2f} per second of processors", flush=True)
        return [text for text, _ in written]

    with ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(from_server, PROMPTS[:2])), from_library(PROMPTS[0])  # packs, and tests itself
        for _ in range(rounds):
            texts = {together: timed(together, lambda: pool.map(from_server, PROMPTS))}
            texts[alone] = timed(alone, lambda: map(from_server, PROMPTS))
            texts[ours] = timed(ours, lambda: map(from_library, PROMPTS))
            for number, prompt in enumerate(PROMPTS):
                versions = {name: written[number] for name, written in texts.items()}
                if len(set(versions.values())) > 1:
                    different.append({"prompt": prompt, **versions})
    rows = [
        ratio_row(f"{up} over {down}{by}", [a[index] / b[index] for a, b in zip(speeds[up], speeds[down], strict=True)])
        for up, down in ((together, alone), (alone, ours))
        for index, by in enumerate(("", ", by processor time"))
    ]
    return rows, {
        "tokens/s, by the clock and by processor time": speeds,
        "texts": rounds * STREAMS,
        "differ": different,
    }


def first_tokens(client: openai.OpenAI, lm: Any, count: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The ratios of 3, with the prompts' tokens and the seconds."""
    words = needs(DATA / "gutenberg_en" / "pg1342.txt").read_text("utf-8").split()[2000:]
    streamed(client, "Who is the Count?", 2, model="smollm2/book")  # builds the index
    equal, full, seconds = [], [], []
    for number, question in enumerate(QUESTIONS[:count]):
        with_memory = streamed(client, question, 2, model="smollm2/book")
        size = with_memory.prompt_tokens
        budget = len(lm.prompt_ids(question)) + lm.prompt_budget.tokens
        without = streamed(client, message(lm, words[number * 3000 :], size), 2)
        with_budget = streamed(client, message(lm, words[number * 3000 + 1500 :], budget), 2)
        equal.append(with_memory.first / without.first)
        full.append(with_memory.first / with_budget.first)
        seconds.append(
            {
                "prompt": size,
                "prompt without a memory": without.prompt_tokens,
                "first": with_memory.first,
                "without a memory": without.first,
                "prompt of the whole budget": with_budget.prompt_tokens,
                "of the whole budget": with_budget.first,
            }
        )
    rows = [
        ratio_row("first token with a memory over that of an equal prompt without", equal),
        ratio_row("first token with a memory over that of a prompt of the whole budget without", full),
    ]
    return rows, {"questions": seconds}


def message(lm: Any, words: list[str], size: int) -> str:
    """The first of `words`, so many that the prompt of the message has about `size` tokens, and no more."""
    text = " ".join(words[:size])
    for _ in range(8):
        surplus = len(lm.prompt_ids(text)) - size
        if surplus <= 0:
            break
        text = " ".join(text.split()[: -max(1, int(surplus / 1.5))])
    return text


def canaries(client: openai.OpenAI, words: list[tuple[str, str]]) -> dict[str, Any]:
    """Counts the words of others in what each session gets, and its own words."""

    def session(number: int) -> list[Streamed]:
        written, _ = words[number]
        messages = (
            f"My secret word is {written}. Please remember it.",
            "What is the secret word of the diary?",
            "What is my secret word?",
        )
        options = {"model": f"smollm2/diary-{number}", "extra_headers": {"X-Session-Id": f"canary {number}"}}
        return [streamed(client, message, 16, **options) for message in messages]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(session, range(len(words))))
    crossed, own, recalled = 0, 0, 0
    for number, turns in enumerate(replies):
        seen = [" ".join((turn.text, *turn.recalled)).lower() for turn in turns]
        others = [word for other, pair in enumerate(words) if other != number for word in pair]
        crossed += sum(word in text for text in seen for word in others)
        own += sum(word in text for text, word in zip(seen[1:], reversed(words[number]), strict=True))
        recalled += sum(len(turn.recalled) for turn in turns)
    return {
        "sessions": len(words),
        "turns": sum(map(len, replies)),
        "recalled passages": recalled,
        "words of other sessions": crossed,
        "own words, of two a session": own,
    }


def secret_words(count: int) -> list[tuple[str, str]]:
    """Two words that nothing else holds for each session."""
    draw, words = random.Random(SEED), set()
    while len(words) < 2 * count:
        words.add("".join(draw.choice(letters) for letters in ["bdfgklmnprstvz", "aeiou"] * 4))
    ordered = sorted(words)
    draw.shuffle(ordered)
    return list(zip(ordered[::2], ordered[1::2], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", choices=("first-token",), help="3 alone")
    options = parser.parse_args()
    rounds, questions, sessions, tokens = SIZES[options.size]
    name = "serving" if options.size == "full" else "serving-small"

    import memspan

    lm, words = memspan.load_model("smollm2"), secret_words(sessions)
    with tempfile.TemporaryDirectory() as folder:
        owner = Path(folder, "local")
        text = needs(DATA / "gutenberg_en" / "pg1184.txt").read_text("utf-8")
        book = lm.new_memory(owner / "book")
        lm.read(text[: int(tokens * 4.0)], book, source="monte-cristo.txt")
        if options.only is not None:
            with served(Path(folder)) as (client, _):
                first, seconds = first_tokens(client, lm, questions)
            report.table(first)
            report.save(f"{name}-{options.only}", {"ratios": first, "memory tokens": book.tokens, **seconds}, seeds=[])
            return
        for number, (_, word) in enumerate(words):
            lm.read(
                f"The secret word of the diary is {word}.", lm.new_memory(owner / f"diary-{number}"), source="diary.txt"
            )
        with served(Path(folder)) as (client, server):
            rows, speeds = streams(client, server, lm, rounds)
            first, seconds = first_tokens(client, lm, questions)
            crossing = canaries(client, words)
    rows += first
    report.table(rows)
    print(f"{len(speeds['differ'])} of {speeds['texts']} texts differ")
    report.table([crossing])
    figures = {"ratios": rows, **speeds, "memory tokens": book.tokens, **seconds, "canaries": crossing}
    report.save(name, figures, seeds=[SEED])


if __name__ == "__main__":
    main()
