"""`torch.compile` of the model that is trained."""

import os
import shutil
from typing import Any

import torch
from torch import nn

from memspan.errors import UsageError
from memspan.plugins import is_installed

COMPILERS = ("g++", "clang++", "c++", "cl")


def compiled(model: nn.Module, device: torch.device) -> Any:
    """The model compiled for the device, around the same weights; compiling takes place in its first calls.

    Raises UsageError where what writes the code is missing: Triton for a GPU, a C++ compiler ($CXX, or a common one) otherwise.
    """
    if device.type == "cuda":
        if not is_installed("triton"):
            raise UsageError("`compile` needs Triton for a GPU: pip install triton, or leave the option out.")
    elif not any(map(shutil.which, [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS)):
        raise UsageError("`compile` needs a C++ compiler, like g++: install one, or leave the option out.")
    return torch.compile(model)
