"""The precision of what is carried through a whole stream: single at least, whatever that of the weights is.

A sum in bfloat16 stops growing at 256 times its terms, and a product of decays is off by a percent after a few steps.
"""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision, else `dtype` itself."""
    return torch.promote_types(dtype, torch.float32)


def exact(x: Tensor) -> Tensor:
    """x in single precision at least."""
    return x.to(at_least_single(x.dtype))


def exact_products(x: Tensor) -> AbstractContextManager[Any]:
    """A context in which products on the device of x are not computed in half precision by autocast."""
    return torch.autocast(x.device.type, enabled=False)
