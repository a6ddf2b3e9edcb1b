"""What differs between the releases of transformers that are supported."""

import inspect
from collections.abc import Callable
from typing import Any

# transformers 5.24 renamed the argument and the output field; the old name is deprecated until 5.40.
CACHE_NAMES = ("cache", "past_key_values")


def cache_name(forward: Callable[..., Any]) -> str:
    """The name under which a model's `forward` takes its cache, and under which its output holds it."""
    parameters = inspect.signature(forward).parameters
    return next((name for name in CACHE_NAMES if name in parameters), CACHE_NAMES[-1])
