"""The engine: turns, fairness, bounds, and clients that leave."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest

from memspan.serve.engine import PAUSE, Engine
from memspan.serve.replies import ApiError


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(most_waiting=6, most_of_owner=4)
    yield engine
    engine.close(5)


def test_owners_take_turns(engine: Engine) -> None:
    order: list[str] = []
    gate = threading.Event()

    async def main() -> None:
        first = asyncio.create_task(engine.call("a", lambda: gate.wait(30)))
        await asyncio.sleep(0.05)
        flood = [asyncio.create_task(engine.call("a", add(f"a{number}"))) for number in range(4)]
        await asyncio.sleep(0)
        late = [asyncio.create_task(engine.call("b", add(f"b{number}"))) for number in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as raised:
            await engine.call("c", add("c"))
        assert raised.value.status == 429
        assert int(raised.value.headers["Retry-After"]) >= 1
        gate.set()
        await asyncio.gather(first, *flood, *late)

    def add(name: str) -> Callable[[], None]:
        return lambda: order.append(name)

    asyncio.run(main())
    assert order == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_one_owner_cannot_fill_the_queue(engine: Engine) -> None:
    gate = threading.Event()

    async def main() -> None:
        tasks = [asyncio.create_task(engine.call("a", lambda: gate.wait(30)))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(engine.call("a", lambda: True)) for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError):
            await engine.call("a", lambda: True)
        tasks.append(asyncio.create_task(engine.call("b", lambda: True)))
        await asyncio.sleep(0)
        gate.set()
        assert await asyncio.gather(*tasks) == [True] * 6

    asyncio.run(main())


def test_work_is_closed_where_it_stands_when_the_client_leaves(engine: Engine) -> None:
    closed, count = threading.Event(), 0

    def work() -> Iterator[int]:
        nonlocal count
        try:
            while True:
                count += 1
                yield count
        finally:
            closed.set()

    async def main() -> None:
        async with aclosing(engine.stream("a", work)) as parts:
            async for part in parts:
                if part == 3:
                    break
        assert await asyncio.to_thread(closed.wait, 10)
        assert await engine.call("a", lambda: "next") == "next"

    asyncio.run(main())


def test_work_that_waits_is_dropped_when_the_client_leaves(engine: Engine) -> None:
    gate, done = threading.Event(), []

    async def main() -> None:
        first = asyncio.create_task(engine.call("a", lambda: gate.wait(30)))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(engine.call("a", lambda: done.append("second")))
        await asyncio.sleep(0)
        assert engine.waiting == 1
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert engine.waiting == 0
        gate.set()
        await first

    asyncio.run(main())
    assert done == []


def test_an_error_reaches_its_own_client_only(engine: Engine) -> None:
    async def main() -> None:
        failing = asyncio.create_task(engine.call("a", lambda: 1 / 0))
        other = asyncio.create_task(engine.call("b", lambda: "fine"))
        with pytest.raises(ZeroDivisionError):
            await failing
        assert await other == "fine"

    asyncio.run(main())


def test_the_end_refuses_what_waits_and_stops_what_runs() -> None:
    engine, closed, started = Engine(most_running=1), threading.Event(), threading.Event()

    def work() -> Iterator[int]:
        try:
            while True:
                started.set()
                yield 1
        finally:
            closed.set()

    async def consume() -> None:
        async with aclosing(engine.stream("a", work)) as parts:
            async for _ in parts:
                pass

    async def main() -> None:
        running = asyncio.create_task(consume())
        await asyncio.to_thread(started.wait, 10)
        waiting = asyncio.create_task(engine.call("a", lambda: 1))
        await asyncio.sleep(0)
        ending = asyncio.create_task(asyncio.to_thread(engine.close, 0.1))
        with pytest.raises(ApiError) as raised:
            await waiting
        assert raised.value.status == 503
        await ending
        assert closed.is_set()
        with pytest.raises(ApiError):
            await engine.call("b", lambda: 1)
        await running

    asyncio.run(main())
    assert not engine.is_ready


def counting(order: list[str], name: str, turns: int) -> Callable[[], Iterator[str]]:
    def work() -> Iterator[str]:
        for turn in range(turns):
            order.append(name)
            yield PAUSE if turn % 2 else name
        yield f"{name} is done"

    return work


async def parts_of(
    engine: Engine, owner: str, work: Callable[[], Iterator[str]], alone: str | None = None
) -> list[str]:
    async with aclosing(engine.stream(owner, work, alone)) as parts:
        return [part async for part in parts]


def test_requests_are_worked_on_together_and_pauses_are_sent_to_nobody(engine: Engine) -> None:
    order: list[str] = []

    async def main() -> list[list[str]]:
        gate = threading.Event()
        first = asyncio.create_task(engine.call("z", lambda: gate.wait(30)))
        await asyncio.sleep(0.05)
        tasks = [asyncio.create_task(parts_of(engine, name, counting(order, name, 6))) for name in "abc"]
        await asyncio.sleep(0)
        gate.set()
        await first
        return await asyncio.gather(*tasks)

    assert asyncio.run(main()) == [[name] * 3 + [f"{name} is done"] for name in "abc"]
    assert order.index("c") < len(order) - 1 - order[::-1].index("a")  # c began before a ended
    assert engine.running == 0


def test_what_must_be_alone_waits_and_lets_others_pass(engine: Engine) -> None:
    order: list[str] = []

    async def main() -> None:
        gate = threading.Event()
        first = asyncio.create_task(engine.call("z", lambda: gate.wait(30)))
        await asyncio.sleep(0.05)
        tasks = [
            asyncio.create_task(parts_of(engine, "a", counting(order, name, 9), alone))
            for name, alone in (("s1", "s"), ("s2", "s"), ("t", "t"))
        ]
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(first, *tasks)

    asyncio.run(main())
    assert [name for name in order if name != "t"] == ["s1"] * 9 + ["s2"] * 9
    assert order.index("t") < order.index("s2")


def test_an_owner_without_a_request_that_is_worked_on_does_not_wait() -> None:
    engine = Engine(most_running=2)

    async def main() -> None:
        begun, ended = [], threading.Event()

        def endless(name: str) -> Callable[[], Iterator[Any]]:
            def work() -> Iterator[Any]:
                begun.append(name)
                while not ended.is_set():
                    yield PAUSE
                yield name

            return work

        flood = [asyncio.create_task(parts_of(engine, "a", endless(f"a{number}"))) for number in range(4)]
        while engine.running < 2:
            await asyncio.sleep(0.01)
        other = [asyncio.create_task(parts_of(engine, "b", endless(f"b{number}"))) for number in range(2)]
        await asyncio.sleep(0)
        assert await engine.call("c", lambda: sorted(begun)) == ["a0", "a1", "b0"]
        assert engine.waiting == 3
        ended.set()
        assert len(await asyncio.gather(*flood, *other)) == 6

    try:
        asyncio.run(main())
    finally:
        engine.close(5)
