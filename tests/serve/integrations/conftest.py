"""A memory of a few short texts, in a folder."""

from pathlib import Path

import pytest

from memspan import LanguageModel, Memory

TEXTS = {
    "boat.md": "The zinc trunk stands under the stairs of the boathouse.",
    "soup.md": "Green peas are soaked overnight before the soup is cooked.",
    "rent.md": "Dr. Okafor pays 340 euros a day for the cabin.",
    "storm.md": "The second anchor was lost in the storm of March.",
}


@pytest.fixture
def memory(lm: LanguageModel, tmp_path: Path) -> Memory:
    memory = lm.new_memory(tmp_path / "library.mem")
    for name, text in TEXTS.items():
        lm.read(text, memory, source=name)
    return memory
