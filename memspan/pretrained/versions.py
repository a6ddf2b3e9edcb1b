"""The releases of transformers that are verified, and what differs between them."""

import inspect
from collections.abc import Callable
from typing import Any

import transformers

# The oldest and the newest release that pass the parity tests of every family.
VERIFIED = ("5.17", "5.24")

# transformers 5.24 renamed the argument and the output field; the old name is deprecated until 5.40.
CACHE_NAMES = ("cache", "past_key_values")


def cache_name(forward: Callable[..., Any]) -> str:
    """The name under which a model's `forward` takes its cache, and under which its output holds it."""
    parameters = inspect.signature(forward).parameters
    return next((name for name in CACHE_NAMES if name in parameters), CACHE_NAMES[-1])


def installed_and_verified() -> str:
    """The installed release of transformers and the verified range, for messages."""
    return f"transformers {transformers.__version__}; verified: {VERIFIED[0]} to {VERIFIED[1]}"
