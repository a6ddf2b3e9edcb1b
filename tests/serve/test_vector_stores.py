"""Files and vector stores, by the client that OpenAI publishes, whose models check every reply strictly."""

from typing import Any

import openai
import pytest
from openai.types import FileObject, VectorStore, VectorStoreSearchResponse
from openai.types.vector_stores import VectorStoreFile

from memspan import LanguageModel
from memspan.serve.attribute_filters import Comparison, Compound, passes
from memspan.serve.library import LOCAL
from memspan.serve.recall import scored_passages
from memspan.serve.service import Limits
from memspan.serve.uploads import read_for_a_while
from tests.serve.running import ANNA, BERT, KEYS, Running, running

FACT = "The zinc trunk stands under the stairs of the boathouse."
SOUP = "Green peas are soaked overnight before the soup is cooked."
QUERY = "Where does the zinc trunk stand?"


def strictly(reply: Any) -> Any:
    """A reply that its own model accepts as it stands."""
    type(reply).model_validate_json(reply.model_dump_json(), strict=True)
    return reply


def upload(client: openai.OpenAI, text: str | bytes, name: str = "fact.txt") -> FileObject:
    content = text if isinstance(text, bytes) else text.encode()
    file = strictly(client.files.create(file=(name, content), purpose="user_data"))
    assert isinstance(file, FileObject)
    return file


def filled(client: openai.OpenAI) -> tuple[VectorStore, FileObject, FileObject]:
    """A vector store of two files with attributes."""
    store = strictly(client.vector_stores.create(name="boats"))
    fact, soup = upload(client, FACT), upload(client, SOUP, "soup[1]*.txt")
    for file, attributes in ((fact, {"year": 2024, "by": "Ann"}), (soup, {"year": 2020, "vegan": True})):
        read = client.vector_stores.files.create(store.id, file_id=file.id, attributes=attributes)
        assert strictly(read).status == "completed"
    return store, fact, soup


def search(client: openai.OpenAI, store: str, **options: Any) -> list[VectorStoreSearchResponse]:
    page = client.vector_stores.search(store, **{"query": QUERY, **options})
    return [strictly(found) for found in page]


def test_a_file_comes_back_as_it_was_and_is_deleted(client: openai.OpenAI, server: Running) -> None:
    content = FACT.encode() + bytes(range(256))
    file = upload(client, content, "../../etc/passwd.bin")
    assert (file.filename, file.bytes, file.status) == ("passwd.bin", len(content), "processed")
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    assert file.id in [each.id for each in client.files.list()]
    assert file.id not in [each.id for each in client.files.list(purpose="batch")]
    assert strictly(client.files.delete(file.id)).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match="There is no file"):
            call(file.id)
    left = [path for path in server.service.library.root.rglob("*") if file.id in path.name]
    assert left == []


def test_a_vector_store_is_a_memory_of_the_library(client: openai.OpenAI, server: Running) -> None:
    store, fact, soup = filled(client)
    memory = server.service.library.open(LOCAL, store.id)
    assert list(memory.sources) == ["fact.txt", "soup[1]*.txt"]
    assert memory.sources["fact.txt"].meta["tags"] == {"year": 2024, "by": "Ann"}
    found, expected = search(client, store.id), scored_passages(server.service.lm, memory, QUERY)
    assert [(each.filename, each.content[0].text, each.score) for each in found] == [
        (passage.source, passage.text, passage.confidence) for passage in expected
    ]
    assert {each.file_id for each in found} == {fact.id, soup.id}
    assert all(0 <= each.score <= 1 for each in found)


def test_a_memory_that_was_read_otherwise_is_a_vector_store(client: openai.OpenAI, server: Running) -> None:
    library, lm = server.service.library, server.service.lm
    library.create(LOCAL, "ships")
    with library.lease(LOCAL, "ships") as memory:
        lm.read(FACT, memory, source="log.txt", where={"by": "Ann"})
    store = strictly(client.vector_stores.retrieve("ships"))
    assert (store.name, store.file_counts.total) == ("ships", 1)
    assert "ships" in [each.id for each in client.vector_stores.list()]
    (found,) = search(client, "ships")
    assert (found.file_id, found.filename, found.attributes) == ("log.txt", "log.txt", {"by": "Ann"})
    (file,) = client.vector_stores.files.list("ships")
    assert strictly(file).id == "log.txt"


def test_a_search_keeps_to_its_filters_its_number_and_its_threshold(client: openai.OpenAI) -> None:
    store, fact, soup = filled(client)

    def files(**options: Any) -> set[str]:
        return {each.file_id for each in search(client, store.id, **options)}

    after = {"type": "gte", "key": "year", "value": 2024}
    assert files(filters=after) == {fact.id}
    assert files(filters={"type": "eq", "key": "vegan", "value": True}) == {soup.id}
    assert files(filters={"type": "or", "filters": [after, {"type": "in", "key": "year", "value": [2020]}]}) == {
        fact.id,
        soup.id,
    }
    assert files(filters={"type": "and", "filters": [after, {"type": "ne", "key": "by", "value": "Ann"}]}) == set()
    assert len(search(client, store.id, max_num_results=1)) == 1
    scores = [each.score for each in search(client, store.id)]
    assert [each.score for each in search(client, store.id, ranking_options={"score_threshold": max(scores)})] == [
        score for score in scores if score == max(scores)
    ]
    both = search(client, store.id, query=[QUERY, "How are peas cooked?"])
    assert len(both) == len({each.content[0].text for each in both}) == 2


def test_a_vector_store_is_made_listed_changed_and_deleted(client: openai.OpenAI, server: Running) -> None:
    file = upload(client, FACT)
    store = strictly(client.vector_stores.create(name="a", metadata={"team": "red"}, file_ids=[file.id]))
    assert (store.name, store.metadata, store.status) == ("a", {"team": "red"}, "completed")
    assert (store.file_counts.completed, store.usage_bytes > 0) == (1, True)
    changed = strictly(client.vector_stores.update(store.id, name="b"))
    assert (changed.name, changed.metadata, changed.created_at) == ("b", {"team": "red"}, store.created_at)
    newest = client.vector_stores.list(limit=1, order="desc")
    assert len(newest.data) == 1
    assert newest.has_more
    assert strictly(client.vector_stores.delete(store.id)).deleted
    with pytest.raises(openai.NotFoundError):
        client.vector_stores.retrieve(store.id)
    assert store.id not in server.service.library.names(LOCAL)
    assert client.files.retrieve(file.id) == file


def test_the_files_of_a_vector_store_are_shown_and_forgotten(client: openai.OpenAI, server: Running) -> None:
    store, fact, soup = filled(client)
    listed = [strictly(file) for file in client.vector_stores.files.list(store.id, order="asc")]
    assert [file.id for file in listed] == [fact.id, soup.id]
    assert listed[0].attributes == {"year": 2024, "by": "Ann"}
    assert isinstance(client.vector_stores.files.retrieve(fact.id, vector_store_id=store.id), VectorStoreFile)
    (content,) = client.vector_stores.files.content(fact.id, vector_store_id=store.id)
    assert content.text == FACT
    assert strictly(client.vector_stores.files.delete(soup.id, vector_store_id=store.id)).deleted
    assert {each.file_id for each in search(client, store.id)} == {fact.id}
    client.files.delete(fact.id)
    assert len(server.service.library.open(LOCAL, store.id).sources) == 0
    assert search(client, store.id) == []
    folder = server.service.library.root / LOCAL / store.id
    assert not any(b"zinc trunk" in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_what_cannot_be_read_is_refused_and_leaves_nothing(client: openai.OpenAI, server: Running) -> None:
    store = client.vector_stores.create(name="a")
    binary = upload(client, bytes(range(256)) * 20, "x.bin")
    with pytest.raises(openai.BadRequestError) as refused:
        client.vector_stores.files.create(store.id, file_id=binary.id)
    assert "x.bin" in str(refused.value)
    assert str(server.service.library.root) not in str(refused.value)
    assert client.vector_stores.retrieve(store.id).file_counts.total == 0
    before = server.service.library.names(LOCAL)
    for files, error in (([binary.id], openai.BadRequestError), (["file-" + "0" * 24], openai.NotFoundError)):
        with pytest.raises(error):
            client.vector_stores.create(file_ids=files)
    assert server.service.library.names(LOCAL) == before
    file = upload(client, FACT)
    client.vector_stores.files.create(store.id, file_id=file.id)
    with pytest.raises(openai.ConflictError, match="already"):
        client.vector_stores.files.create(store.id, file_id=file.id)


@pytest.mark.parametrize(
    "options",
    [
        {"query": ""},
        {"query": " "},
        {"query": []},
        {"query": 5},
        {"max_num_results": 0},
        {"max_num_results": 51},
        {"max_num_results": 1.5},
        {"rewrite_query": True},
        {"ranking_options": {"score_threshold": 1.5}},
        {"ranking_options": {"score_threshold": "high"}},
        {"ranking_options": {"ranker": "mine"}},
        {"filters": {"type": "like", "key": "a", "value": "b"}},
        {"filters": {"type": "in", "key": "year", "value": 3}},
        {"filters": {"type": "gt", "key": "year", "value": [3]}},
        {"filters": {"type": "and", "filters": "all"}},
    ],
)
def test_a_wrong_search_is_a_bad_request(client: openai.OpenAI, server: Running, options: dict[str, Any]) -> None:
    if "wrong" not in server.service.library.names(LOCAL):
        server.service.library.create(LOCAL, "wrong")
        with server.service.library.lease(LOCAL, "wrong") as memory:
            server.service.lm.read(FACT, memory, source="a")
    with pytest.raises(openai.BadRequestError) as refused:
        search(client, "wrong", **options)
    body: Any = refused.value.body
    assert set(body) == {"message", "type", "param", "code"}
    assert body["message"].strip()
    assert "\n" not in body["message"]


def test_an_owner_has_only_their_own(tmp_path_factory: pytest.TempPathFactory, lm: LanguageModel) -> None:
    limits = Limits(stored_bytes=200_000)
    with running(tmp_path_factory.mktemp("owners"), lm, KEYS, limits) as server:
        anna, bert = server.client(ANNA), server.client(BERT)
        store, fact, _ = filled(anna)
        for call in (
            lambda: bert.files.retrieve(fact.id),
            lambda: bert.files.content(fact.id),
            lambda: bert.files.delete(fact.id),
            lambda: bert.vector_stores.retrieve(store.id),
            lambda: bert.vector_stores.update(store.id, name="mine"),
            lambda: bert.vector_stores.delete(store.id),
            lambda: bert.vector_stores.search(store.id, query=QUERY),
            lambda: bert.vector_stores.files.create(store.id, file_id=fact.id),
            lambda: bert.vector_stores.files.list(store.id),
            lambda: bert.vector_stores.files.retrieve(fact.id, vector_store_id=store.id),
            lambda: bert.vector_stores.files.delete(fact.id, vector_store_id=store.id),
            lambda: bert.vector_stores.create(file_ids=[fact.id]),
        ):
            with pytest.raises(openai.NotFoundError, match="There is no"):
                call()
        assert bert.files.list().data == []
        assert bert.vector_stores.list().data == []
        assert {each.filename for each in search(anna, store.id)} == {"fact.txt", "soup[1]*.txt"}
        with pytest.raises(openai.RateLimitError, match="200,000 bytes"):
            upload(bert, "x" * 200_001)


def test_filters_compare_as_the_api_has_it() -> None:
    attributes = {"year": 2024, "by": "Ann", "vegan": True}

    def met(kind: Any, key: str, value: Any) -> bool:
        return passes(Comparison(type=kind, key=key, value=value), attributes)

    assert met("eq", "year", 2024.0)
    assert not met("eq", "vegan", 1)
    assert not met("gt", "vegan", 0)
    assert met("lt", "by", "Bert")
    assert not met("lt", "by", 5)
    assert met("ne", "other", 1)
    assert not met("gte", "other", 1)
    assert met("nin", "by", ["Bert"])
    assert not met("in", "other", ["x"])
    nothing = Compound(type="and", filters=[])
    assert passes(nothing, attributes)
    assert not passes(Compound(type="or", filters=[]), attributes)


def test_a_long_file_is_read_in_turns_and_goes_on_where_an_interruption_stopped_it(
    server: Running, client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memspan.serve.uploads.TURN", 0.0)
    monkeypatch.setattr("memspan.serve.uploads._SHARE_OF_FINDING", 0.0)
    text = "".join(f"Line {number} of the log of the mill at the bridge.\n" for number in range(3000))
    file, store = upload(client, text), client.vector_stores.create()
    ends: list[bool] = []

    def interrupted(*arguments: Any) -> Any:
        if len(ends) == 1:
            ends.append(False)
            raise RuntimeError("as if the process had ended")
        is_read, progress = read_for_a_while(*arguments)
        ends.append(is_read)
        return is_read, progress

    monkeypatch.setattr("memspan.serve.vector_stores.read_for_a_while", interrupted)
    with pytest.raises(openai.InternalServerError):
        client.vector_stores.files.create(store.id, file_id=file.id)
    assert client.vector_stores.files.retrieve(file.id, vector_store_id=store.id).status == "in_progress"
    read = client.vector_stores.files.create(store.id, file_id=file.id)
    assert read.status == "completed"
    assert ends.count(True) == 1
    assert len(ends) > 2
    content = client.vector_stores.files.content(file.id, vector_store_id=store.id)
    assert "".join(part.text or "" for part in content.data) == text
    assert client.vector_stores.retrieve(store.id).file_counts.total == 1
