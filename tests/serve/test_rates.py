"""Limits of requests and tokens in a minute, and the headers that tell clients of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memspan import LanguageModel
from memspan.serve.rates import MINUTE, Rates, duration
from memspan.serve.replies import ApiError
from memspan.serve.service import Limits
from tests.serve.running import ANNA, BERT, KEYS, running

MESSAGE: Any = [{"role": "user", "content": "Hi"}]


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def is_taken_in(check: Callable[[str], None], owner: str = "anna") -> bool:
    try:
        check(owner)
    except ApiError as error:
        return not (error.status == 429 and int(error.headers["Retry-After"]) >= 1)
    return True


@given(
    st.integers(1, 5000),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3000)), min_size=1, max_size=60),
)
def test_over_time_nobody_gets_more_tokens_than_the_limit(limit: int, asked: list[tuple[float, int]]) -> None:
    """The tokens of all requests that are taken in fit into the limit, but for what the last one takes."""
    clock = Clock()
    rates, begun, used, last = Rates(tokens_per_minute=limit, clock=clock), clock.now, 0, 0
    for seconds, tokens in asked:
        clock.now += seconds
        if is_taken_in(rates.require_tokens):
            rates.charge("anna", tokens)
            used, last = used + tokens, tokens
        allowed = limit + limit * (clock.now - begun) / MINUTE
        assert used - last <= allowed * (1 + 1e-9)


def test_a_debt_is_paid_before_more_is_taken_in() -> None:
    clock = Clock()
    rates = Rates(tokens_per_minute=60, clock=clock)
    rates.require_tokens("anna")
    rates.charge("anna", 100)
    with pytest.raises(ApiError) as raised:
        rates.require_tokens("anna")
    assert raised.value.headers["Retry-After"] == "41"
    assert is_taken_in(rates.require_tokens, "bert")
    clock.now += 40.9
    assert not is_taken_in(rates.require_tokens)
    clock.now += 0.2
    assert is_taken_in(rates.require_tokens)
    assert rates.headers("anna")["x-ratelimit-remaining-tokens"] == "1"
    clock.now += 1000
    assert rates.headers("anna") == {
        "x-ratelimit-limit-tokens": "60",
        "x-ratelimit-remaining-tokens": "60",
        "x-ratelimit-reset-tokens": "0ms",
    }


def test_requests_are_counted_over_the_last_minute() -> None:
    clock = Clock()
    rates = Rates(requests_per_minute=2, clock=clock)
    taken = []
    for seconds in (0, 10, 10, 39, 2, 8, 3):
        clock.now += seconds
        taken.append(is_taken_in(rates.count_request))
    assert taken == [True, True, False, False, True, False, True]
    assert rates.headers("anna")["x-ratelimit-remaining-requests"] == "0"
    assert Rates().headers("anna") == {}


def test_durations_are_written_as_the_api_has_them() -> None:
    assert [duration(seconds) for seconds in (0, 0.0001, 0.12, 1, 6.48, 60, 90, 3661)] == [
        "0ms",
        "1ms",
        "120ms",
        "1s",
        "6.5s",
        "1m0s",
        "1m30s",
        "61m1s",
    ]


def test_a_key_without_tokens_waits_and_is_told_how_long(tmp_path: Path, lm: LanguageModel) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_minute=50, new_tokens=4)
    with running(tmp_path, lm, KEYS, limits) as server:
        anna = server.client(ANNA)
        raw = anna.chat.completions.with_raw_response
        first = raw.create(model="tiny", messages=MESSAGE)
        before = first.headers
        assert (before["x-ratelimit-limit-tokens"], before["x-ratelimit-limit-requests"]) == ("50", "60")
        usage = first.parse().usage
        assert usage is not None
        assert 50 - usage.total_tokens <= int(before["x-ratelimit-remaining-tokens"]) <= 50 - usage.total_tokens + 10
        assert re.fullmatch(r"(\d+m)?\d+(\.\d+)?s|\d+ms", before["x-ratelimit-reset-tokens"])
        client: Any = anna
        calls: list[Callable[[], Any]] = [
            lambda: client.chat.completions.create(model="tiny", messages=MESSAGE),
            lambda: client.chat.completions.create(model="tiny", messages=MESSAGE, stream=True),
            lambda: client.responses.create(model="tiny", input="Hi"),
            lambda: client.completions.create(model="tiny", prompt="Hi"),
        ]
        server.service.rates.charge("anna", 200)
        for call in calls:
            with pytest.raises(openai.RateLimitError) as raised:
                call()
            assert raised.value.code == "rate_limit_exceeded"
            assert 1 <= int(raised.value.response.headers["Retry-After"]) <= 300
            assert raised.value.response.headers["x-ratelimit-remaining-tokens"] == "0"
        assert [model.id for model in anna.models.list()] == ["tiny"]  # takes no tokens
        assert server.client(BERT).responses.create(model="tiny", input="Hi").output_text
        with server.http() as http:
            assert not any(name.startswith("x-ratelimit") for name in http.get("/health").headers)
            assert not any(name.startswith("x-ratelimit") for name in http.get("/v1/models").headers)


def test_what_a_client_has_used_before_it_left_counts(tmp_path: Path, lm: LanguageModel) -> None:
    with running(tmp_path, lm, KEYS, Limits(tokens_per_minute=1000)) as server:
        anna, rates = server.client(ANNA), server.service.rates

        def left() -> int:
            return int(rates.headers("anna")["x-ratelimit-remaining-tokens"])

        stream = anna.chat.completions.create(
            model="tiny", messages=MESSAGE, max_tokens=1500, temperature=2, seed=1, stream=True
        )
        for _ in range(5):
            next(stream)
        stream.close()
        while server.service.engine.running or server.service.engine.waiting:
            pass
        assert left() < 1000 - 5
        before = left()
        embedded = anna.completions.create(model="tiny", prompt="Hi there", max_tokens=3).usage
        assert embedded is not None
        assert left() <= before - embedded.total_tokens + 10
