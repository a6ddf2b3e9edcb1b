"""Every kind of change, for the tests that disturb one."""

import pytest

from tests.memory.store.changes import CHANGES, Change


@pytest.fixture(params=CHANGES)
def change(request: pytest.FixtureRequest) -> Change:
    return CHANGES[request.param]
