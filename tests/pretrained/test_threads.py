"""A model with a memory attached belongs to one thread, and to those that are started while it is attached."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from memspan import attached
from memspan.errors import UsageError
from memspan.pretrained import hooks
from tests.pretrained.tiny import CACHE, random_ids, tiny_model

EVERYTHING = {"window": None}


@pytest.fixture
def in_an_earlier_thread() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """A function that gives what an action returns or raises in a thread that was started before the test."""
    with ThreadPoolExecutor(1) as pool:

        def call(action: Callable[[], Any]) -> Any:
            try:
                return pool.submit(action).result()
            except UsageError as error:
                return error

        call(lambda: None)  # starts the thread
        yield call


def in_another_thread(action: Callable[[], Any]) -> Any:
    """What the action returns or raises, in a thread of its own."""
    outcome: list[Any] = []

    def act() -> None:
        try:
            outcome.append(action())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    return outcome[0]


def attach(model: Any) -> None:
    with attached(model, **EVERYTHING):
        pass


@torch.no_grad()
def test_earlier_threads_can_do_nothing_with_it_and_change_nothing(
    in_an_earlier_thread: Callable[[Callable[[], Any]], Any],
) -> None:
    model, ids = tiny_model("llama"), random_ids(1, 12)
    plain = model(ids).logits
    with attached(model, **EVERYTHING):
        first = model(ids[:, :6])
        for action in (lambda: model(ids), lambda: model.generate(ids, max_new_tokens=2)):
            refused = in_an_earlier_thread(action)
            assert isinstance(refused, UsageError)
            assert "attached to this model by another thread" in str(refused)
        refused = in_an_earlier_thread(lambda: attach(model))
        assert isinstance(refused, UsageError)
        assert "already has a memory attached" in str(refused)
        second = model(ids[:, 6:], **{CACHE: getattr(first, CACHE)})
        torch.testing.assert_close(torch.cat([first.logits, second.logits], 1), plain)
    assert torch.equal(in_an_earlier_thread(lambda: model(ids).logits), plain)
    assert in_an_earlier_thread(lambda: attach(model)) is None


@torch.no_grad()
def test_a_call_amid_the_switch_gets_an_error_and_no_other_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each step of attaching and detaching, another thread gets the plain logits or a UsageError."""
    model, ids = tiny_model("llama"), random_ids(1, 12)
    plain = model(ids).logits
    seen: list[Any] = []

    def watched(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            seen.append(in_another_thread(lambda: model(ids).logits))
            result = step(*args, **options)
            seen.append(in_another_thread(lambda: model(ids).logits))
            return result

        return call

    monkeypatch.setattr(model, "set_attn_implementation", watched(model.set_attn_implementation))
    monkeypatch.setattr(hooks, "IdentityRotary", watched(hooks.IdentityRotary))
    monkeypatch.setattr(hooks.Attachment, "_remove_hooks", watched(hooks.Attachment._remove_hooks))
    with attached(model, **EVERYTHING):
        pass
    assert len(seen) == 8
    assert all(isinstance(result, UsageError) for result in seen[:-1])
    assert torch.equal(seen[-1], plain)


@torch.no_grad()
def test_two_threads_that_attach_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have looked, and found no memory; then each attaches."""
    model, ids = tiny_model("llama"), random_ids(1, 12)
    plain, meeting = model(ids).logits, threading.Barrier(2)
    results: list[Any] = []
    real = hooks.Attachment.attach

    def attach_together(attachment: hooks.Attachment, **options: Any) -> None:
        meeting.wait()
        real(attachment, **options)

    def use() -> None:
        try:
            with attached(model, **EVERYTHING):
                results.append(model(ids).logits)
        except UsageError as error:
            results.append(error)

    monkeypatch.setattr(hooks.Attachment, "attach", attach_together)
    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in results:
        assert isinstance(result, UsageError) or torch.allclose(result, plain, atol=1e-5)
    assert len(results) == 2
    assert torch.equal(model(ids).logits, plain)
    assert model.config._attn_implementation == "sdpa"


def test_what_checkpointing_computes_again_in_a_backward_thread_is_allowed() -> None:
    model, ids = tiny_model("llama").requires_grad_(True), random_ids(1, 12)
    gradients = []
    for recompute in (False, True):
        model.zero_grad()
        with attached(model, **EVERYTHING):
            call = (
                (lambda: checkpoint(lambda: model(ids).logits, use_reentrant=False))
                if recompute
                else (lambda: model(ids).logits)
            )
            loss = call().square().mean()
            assert in_another_thread(loss.backward) is None
        gradients.append(model.model.embed_tokens.weight.grad.clone())
    torch.testing.assert_close(*gradients)
