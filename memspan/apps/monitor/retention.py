"""How long texts are kept."""

import time

from memspan.apps.monitor.store import Store

_EVERY = 3600.0  # seconds


class Forgetting:
    """Forgets what is older than a monitor keeps, once at the beginning and then every hour."""

    def __init__(self, store: Store) -> None:
        self._store, self._last = store, 0.0

    def step(self) -> None:
        keep = self._store.settings.keep
        if keep is not None and time.time() - self._last > _EVERY:
            self._last = time.time()
            self._store.forget(self._store.periods.number(time.time() - keep * 86400))
