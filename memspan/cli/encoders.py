"""The sentence encoder of a command: the one that a user names, that of the memory, or the default."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from memspan.cli.output import print_info

if TYPE_CHECKING:
    from memspan.memory import Fingerprint
    from memspan.pretrained.text_encoder import EncoderSource


def load_encoder(choice: str | None, memory: "Fingerprint | None", device: str | None) -> "EncoderSource | None":
    """The encoder to load beside a model; a line says so if it has to be fetched first.

    Args:
        choice: the name that a user gives; None takes that of the memory, which may be none.
        memory: the fingerprint of the memory; None if there is none yet, which takes the default.

    Raises UsageError or DamagedFolder for a name that cannot be loaded.
    """
    from memspan.pretrained import encoders

    if choice is None and memory is not None:
        if memory.encoder is None:
            return None
        _announce(memory.encoder.name)
        return encoders.load_recorded(memory.encoder.name, device=device)
    name = encoders.chosen(encoders.AUTO if choice is None else choice)
    name = str(Path(name).resolve()) if os.path.exists(name) else name
    _announce(encoders.DEFAULT if name == encoders.AUTO else name)
    return encoders.load_or_none(name, device=device)


def _announce(name: str) -> None:
    from memspan.pretrained import encoders

    if encoders.must_be_fetched(name):
        print_info(f"Fetching the sentence encoder '{name}' once: {encoders.EMBEDDED[name].about}.")
