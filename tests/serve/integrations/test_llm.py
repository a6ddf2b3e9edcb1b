"""The plugin of `llm`, by llm's own plugin manager and a model that calls a tool."""

import json
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llm", reason="needs the extra llm")

import llm

import memspan
from memspan import LanguageModel, Memory
from memspan.errors import UsageError
from memspan.serve.integrations import llm as plugin
from memspan.serve.recall import scored_passages

QUERY = "Where does the zinc trunk stand?"


@pytest.fixture
def opened(lm: LanguageModel, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder of the memory, which opens with the model of the tests."""
    monkeypatch.setattr("memspan.serve.recall.open_folder", lambda folder: (lm, memory))
    plugin._loaded.cache_clear()
    yield str(memory.path)
    plugin._loaded.cache_clear()


def test_the_plugin_is_registered_under_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm.plugins import load_plugins, pm

    load_plugins()  # an installed memspan is registered here, under its own name, and only once
    if not pm.is_registered(plugin):
        pm.register(plugin, "memspan-under-test")
    assert llm.get_fragment_loaders()["memspan"] is plugin.fragments
    assert llm.get_tools()["Memspan"] is plugin.Memspan
    installed = {entry.name: entry.value for entry in entry_points(group="llm")}
    if "memspan" in installed:  # an environment in which memspan was installed before it had the plugin
        assert installed["memspan"] == plugin.__name__


def test_fragments_are_passages_with_their_sources(lm: LanguageModel, memory: Memory, opened: str) -> None:
    found = scored_passages(lm, memory, QUERY)
    fragments = plugin.fragments(f"{opened}:{QUERY}")
    assert [str(fragment) for fragment in fragments] == [passage.text for passage in found]
    assert fragments[0].source == f"memspan:{found[0].source}:{found[0].start}-{found[0].end}"


@pytest.mark.parametrize("argument", ["", "library.mem", "library.mem:", "library.mem: ", ":question"])
def test_a_wrong_fragment_is_a_sentence(argument: str) -> None:
    with pytest.raises(UsageError, match="A fragment must be memspan:DIR:QUESTION"):
        plugin.fragments(argument)


class CallingModel(llm.Model):
    """Calls the tool that its prompt names, and answers with what it returned."""

    model_id = "calling"
    supports_tools = True

    def execute(self, prompt: Any, stream: bool, response: Any, conversation: Any) -> Iterator[str]:
        if prompt.tool_results:
            yield prompt.tool_results[0].output
            return
        name, argument = prompt.prompt.split(" ", 1)
        parameter = "query" if name.endswith("search") else "question"
        response.add_tool_call(llm.ToolCall(name=name, arguments={parameter: argument}))
        yield ""


def test_a_model_searches_and_asks_by_the_tools(lm: LanguageModel, memory: Memory, opened: str) -> None:
    def called(prompt: str) -> Any:
        return json.loads(CallingModel().chain(prompt, tools=[plugin.Memspan(opened)]).text())

    found = scored_passages(lm, memory, QUERY)
    returned = called(f"Memspan_search {QUERY}")
    assert [each["text"] for each in returned] == [passage.text for passage in found]
    assert [each["score"] for each in returned] == [passage.confidence for passage in found]
    answer = called(f"Memspan_ask {QUERY}")
    assert set(answer) == {"answer", "is_answered", "quotes"}
    assert answer["quotes"][0]["text"] in {passage.text for passage in found}
    lm.read("The zinc trunk was sold.", memspan.load_memory(memory.path), source="new.md")
    assert "new.md" in {each["source"] for each in called(f"Memspan_search {QUERY}")}


def test_a_folder_without_a_memory_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no memory"):
        plugin.Memspan(str(tmp_path / "nothing.mem")).search("x")
