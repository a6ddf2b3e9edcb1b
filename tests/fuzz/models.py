"""Fuzz targets: pretrained models from elsewhere, and the heads in the cache."""

import json
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from benchmarks.stored import cache_in, make_language_model, use_language_model
from memspan.models.folders import CHECKSUMS, write_checksums
from tests.fuzz.harness import Target, Use
from tests.fuzz.mutations import mutated, mutated_json, text_of


def file_of_model(pattern: str) -> Target:
    """A target for the file of a model's folder, or of the cache beside it, that matches `pattern`."""

    def target(folder: Path) -> tuple[st.SearchStrategy[Any], Use]:
        here, intact = folder / "here", folder / "intact"
        here.mkdir()
        with cache_in(here):
            make_language_model(here, 0)
        shutil.copytree(here, intact)
        (path,) = here.glob(pattern)
        raw = path.read_bytes()
        use = use_language_model("model")

        def run(content: Any) -> None:
            shutil.rmtree(here)
            shutil.copytree(intact, here)
            path.write_bytes(content if isinstance(content, bytes) else text_of(content))
            if (path.parent / CHECKSUMS).exists():
                write_checksums(path.parent)
            use(here)

        if path.suffix == ".json":
            return mutated_json(json.loads(raw)) | mutated(raw), run
        return mutated(raw), run

    return target


TARGETS = {
    "config": file_of_model("model/config.json"),
    "generation": file_of_model("model/generation_config.json"),
    "tokenizer": file_of_model("model/tokenizer.json"),
    "tokenizer_config": file_of_model("model/tokenizer_config.json"),
    "weights": file_of_model("model/model.safetensors"),
    "heads": file_of_model("cache/heads/*.json"),
}
