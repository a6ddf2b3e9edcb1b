"""Servers of other kinds: of one memory, and with replies that another server writes."""

from pathlib import Path
from typing import Any

import openai
import pytest

from memspan import LanguageModel
from memspan.assistant.answerers import answerer_of
from tests.serve.running import running
from tests.servers import Reply, completion, dialect, serving

FACT = "The zinc trunk stands under the stairs of the boathouse."
MESSAGE: Any = [{"role": "user", "content": "Where is the zinc trunk?"}]


def test_one_memory_is_served_without_sessions(tmp_path: Path, lm: LanguageModel) -> None:
    lm.read(FACT, lm.new_memory(tmp_path / "house.mem"), source="house.txt")
    with running(tmp_path / "house.mem", lm) as server:
        client = server.client()
        assert [model.id for model in client.models.list()] == ["tiny", "tiny/house.mem"]
        reply = client.chat.completions.create(model="tiny/house.mem", messages=MESSAGE)
        assert FACT in str(reply.model_extra)
        assert client.responses.create(model="tiny/house.mem", input="Where is the zinc trunk?").output_text
        for options in ({"extra_headers": {"X-Session-Id": "s"}}, {"extra_body": {"session_id": "s"}}):
            with pytest.raises(openai.BadRequestError, match="is one memory"):
                client.chat.completions.create(model="tiny", messages=MESSAGE, **options)
        with pytest.raises(openai.BadRequestError, match="is one memory"):
            client.responses.create(model="tiny", input="Hi", store=True)
        with pytest.raises(openai.BadRequestError, match="is one memory"):
            client.conversations.create()
        assert str(tmp_path) not in str(client.models.list())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["house.mem"]


def test_another_server_writes_the_replies(tmp_path: Path, lm: LanguageModel) -> None:
    with serving(
        dialect("llama.cpp", completion("Under", " the stairs."), Reply("secret of the other server", 500))
    ) as other:
        answerer = answerer_of(other.url, print)
        with running(tmp_path, lm, answerer=answerer) as server:
            server.service.library.create("local", "house")
            with server.service.library.lease("local", "house") as memory:
                lm.read(FACT, memory, source="house.txt")
            options: dict[str, Any] = {
                "model": "tiny/house",
                "messages": MESSAGE,
                "extra_headers": {"X-Session-Id": "s"},
            }
            reply = server.client().chat.completions.create(**options)
            assert reply.choices[0].message.content == "Under the stairs."
            assert reply.usage is not None
            assert reply.usage.prompt_tokens == 300
            assert FACT in str(other.bodies[-1]["messages"])
            with pytest.raises(openai.BadRequestError, match="--answer-with"):
                server.client().chat.completions.create(**options, response_format={"type": "json_object"})
            with pytest.raises(openai.InternalServerError) as raised:
                server.client().chat.completions.create(**options)
            assert raised.value.status_code == 502
            assert "secret" not in str(raised.value.body)
            assert other.url not in str(raised.value.body)
            session = next(name for name in server.service.library.names("local") if name.startswith("session-"))
            assert len(server.service.library.open("local", session).sources) == 1
