"""Whatever bytes a file holds, it is used or refused with a sentence, in bounded time and memory."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from memspan.errors import UsageError
from tests.fuzz import documents, models, runs, store, words
from tests.fuzz.harness import BATCH, SECONDS, Target, Use, fuzz, in_child
from tests.fuzz.mutations import mutated

TARGETS = {
    f"{module.__name__.rpartition('.')[2]}_{name}": target
    for module in (store, runs, models, documents, words)
    for name, target in module.TARGETS.items()
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.usefixtures("tiny_model")
def test_every_input_is_used_or_refused(name: str, tmp_path: Path) -> None:
    result = in_child(lambda: fuzz(name, TARGETS[name], tmp_path, SECONDS / len(TARGETS)))
    assert result.isdecimal(), result


@pytest.mark.slow
def test_a_fuzzer_finds_what_it_looks_for(tmp_path: Path) -> None:
    """An error without a type, an input that takes all memory, and one that ends the process."""

    def target(use: Use) -> Target:
        return lambda folder: (mutated(b"abc"), use)

    def raises(content: bytes) -> None:
        if len(content) > 3:
            raise KeyError(content)
        raise UsageError("three bytes at most")

    for use, found in ((raises, "KeyError"), (lambda content: bytes(2**31), "MemoryError")):
        result = in_child(partial(fuzz, "none", target(use), tmp_path, 0))
        assert found in result
        assert "FUZZ_SEED=0" in result
    assert in_child(partial(fuzz, "none", target(len), tmp_path, 0)) == str(BATCH)
    assert "signal 9" in in_child(lambda: os.kill(os.getpid(), signal.SIGKILL) or 0)
