"""A turn that is left unfinished."""

import gc
import threading
from pathlib import Path
from types import GeneratorType

import pytest

from memspan import LanguageModel, Library, Sampling
from memspan.serve.engine import Engine
from memspan.serve.names import LOCAL
from memspan.serve.service import Service
from memspan.serve.sessions import session_name
from memspan.serve.turns import Begun, Turn, take_turn
from tests.assistant.conftest import loaded


@pytest.fixture(scope="module")
def lm(tiny_model: Path) -> LanguageModel:
    return loaded(tiny_model)


def test_its_session_is_free_at_once_whoever_else_looks_at_it(lm: LanguageModel, tmp_path: Path) -> None:
    service, session = Service(Library(tmp_path, lm), Engine(), "tiny"), session_name("session", "a")
    parts = take_turn(service, Turn(LOCAL, "Where is the ship?", session=session, sampling=Sampling(4)))
    assert isinstance(next(parts), Begun)
    looked_at = [
        thing for thing in gc.get_objects() if type(thing) is GeneratorType
    ]  # as a debugger or a profiler does
    parts.close()
    service.library.lease_seconds = 0.1
    errors: list[BaseException] = []

    def change() -> None:
        try:
            with service.library.lease(LOCAL, session) as memory:
                assert len(memory) == 0
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    assert errors == []
    assert looked_at
    service.engine.close()
