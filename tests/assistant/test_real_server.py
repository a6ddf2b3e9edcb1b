"""A real server writes the answers: that of llama.cpp, with the embedded model."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import memspan
from memspan.assistant.answerers.endpoint import EndpointAnswerer
from memspan.assistant.answerers.gguf import GgufAnswerer
from memspan.assistant.language_model import LanguageModel
from memspan.cli import main
from memspan.models.generate import Sampling
from memspan.plugins import is_installed
from memspan.pretrained import hub
from memspan.pretrained.model_cache import cache_folder
from tests.tiny import logbook
from tests.tiny_gguf import write_gguf

pytestmark = [
    pytest.mark.slow,
    pytest.mark.smollm2,
    pytest.mark.skipif(not is_installed("xllamacpp"), reason="the extra `gguf` is not installed"),
]
FACT = "The zinc trunk of Commander Elspeth stands beneath the third stair."
QUESTION = "Where does the zinc trunk of Commander Elspeth stand?"
CACHE = os.environ.get("MEMSPAN_CACHE")
SETTINGS = {"sampling": Sampling(max_new_tokens=40), "budget": 300, "passages": 3}


@pytest.fixture(scope="module", autouse=True)
def own_cache() -> Iterator[None]:
    """The cache of the user, which is the only one that holds the embedded model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MEMSPAN_CACHE", raising=False)
        if CACHE is not None:
            patch.setenv("MEMSPAN_CACHE", CACHE)
        if not list(cache_folder().glob("models/smollm2-*")):
            pytest.skip("the embedded model is not in the cache: memspan models --get smollm2")
        yield


@pytest.fixture(scope="module")
def smollm2(own_cache: None) -> LanguageModel:
    return memspan.load_model("smollm2")


@pytest.fixture(scope="module")
def file(smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "smollm2.gguf"
    return write_gguf(hub.find("smollm2").folder, path, smollm2.tokenizer.chat_template, split="smollm")


@pytest.fixture(scope="module")
def library(smollm2: LanguageModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("memories") / "library"
    memory = smollm2.new_memory(folder)
    smollm2.read(f"{logbook()[:8000]}\n\n{FACT}\n", memory, source="book.txt")
    return folder


def server(file: Path, window: int) -> tuple[object, str]:
    """A running server, which ends with the first of the two, and its address."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel, settings.verbosity = str(file), window, 1, -1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    running = xllamacpp.Server(settings)
    return running, f"{running.listening_address}/v1"


@pytest.fixture(scope="module")
def url(file: Path) -> Iterator[str]:
    running, address = server(file, 4096)
    yield address
    del running


def test_the_server_rests_its_answer_on_the_passages_of_the_local_model(
    smollm2: LanguageModel, library: Path, url: str
) -> None:
    memory = memspan.load_memory(library)
    answerer = EndpointAnswerer(url)
    assert answerer.window == 4096
    parts: list[str] = []
    far = smollm2.ask(memory, QUESTION, answerer=answerer, on_text=parts.append, **SETTINGS)
    own = smollm2.ask(memory, QUESTION, **SETTINGS)
    assert [passage.number for passage in far.passages] == [passage.number for passage in own.passages]
    assert "third stair" in far.text
    assert "".join(parts).strip() == far.text
    assert far.answer_tokens <= 40
    assert all(position < len(far.passages) for citation in far.citations for position in citation.passages)
    assert len(re.findall(r"\[[1-9]", far.text)) == len(far.citations)


def test_the_file_in_this_process_writes_what_the_server_writes(
    smollm2: LanguageModel, library: Path, file: Path, url: str
) -> None:
    memory = memspan.load_memory(library)
    texts = [
        smollm2.ask(memory, QUESTION, answerer=answerer, **SETTINGS).text
        for answerer in (EndpointAnswerer(url), GgufAnswerer(file))
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("form", ["stream", "json"])
def test_the_command_line_asks_it(library: Path, url: str, form: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(
            [
                "ask",
                str(library),
                QUESTION,
                "--answer-with",
                url,
                "--budget",
                "300",
                *(["--json"] if form == "json" else []),
            ]
        )
    shown = capsys.readouterr()
    assert not leaving.value.code, shown.err
    text = json.loads(shown.out)["answer"] if form == "json" else shown.out
    assert "third stair" in text


def test_a_prompt_that_it_refuses_is_shortened(smollm2: LanguageModel, library: Path, file: Path) -> None:
    class Boastful(EndpointAnswerer):
        window = 8192

    running, address = server(file, 512)
    answer = smollm2.ask(
        memspan.load_memory(library),
        QUESTION,
        answerer=Boastful(address),
        **SETTINGS | {"budget": 2000, "passages": 20},
    )
    assert answer.prompt_tokens + answer.answer_tokens <= 512
    assert answer.text
    del running
