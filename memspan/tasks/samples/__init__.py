"""The word lists of the sample corpora, one JSON file for each task that generates a sample."""

import json
from importlib.resources import files
from typing import Any


def word_lists(task: str) -> dict[str, Any]:
    """The lists of words and templates that the sample of the task called `task` is drawn from."""
    lists: dict[str, Any] = json.loads((files(__name__) / f"{task}.json").read_text("utf-8"))
    return lists
