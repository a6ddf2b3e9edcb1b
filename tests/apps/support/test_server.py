"""Customer service over HTTP, with a real client: the same replies, queue and answers as the commands; keys; the page."""

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import httpx2

import memspan
from memspan.apps.support.folder import Folder
from memspan.apps.support.reply import Desk
from memspan.apps.support.server import FILES, PAGE, make_support_app
from memspan.apps.support.store import FILE, Store
from memspan.serve.engine import Engine
from memspan.serve.guard import Rules
from memspan.serve.keys import Keys
from memspan.serve.running import listening, make_server
from memspan.serve.service import Limits
from tests.paths import ROOT

SHOP, MIA = "key-of-the-web-site-0123", "key-of-the-agent-mia-0123"
GNOMES = "Do garden gnomes frighten hedgehogs?"


@contextmanager
def running(
    shop: Path, lm: memspan.LanguageModel, keys: Keys | None = None, limits: Limits | None = None
) -> Iterator[str]:
    channels = frozenset() if keys is None else frozenset({"shop"})
    app = make_support_app(
        Desk(Folder.open(shop), lm), Rules(keys), engine=Engine(), limits=limits or Limits(), channels=channels
    )
    server, listener = make_server(app), listening("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def client(url: str, key: str | None = None) -> httpx2.Client:
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return httpx2.Client(base_url=f"{url}/v1/support", headers=headers, timeout=60)


def test_from_a_message_to_a_persons_answer_as_the_commands_have_it(shop: Path, lm: memspan.LanguageModel) -> None:
    with running(shop, lm) as url, client(url) as http:
        template = http.post("/messages", json={"customer": "ada", "message": "Please cancel order 48213."}).json()
        assert (template["kind"], template["intent"]) == ("template", "cancel_order")
        assert template["intent_confidence"] > 0.5
        warranty = {"customer": "ada", "message": "How many years of warranty do handles of ash wood have?"}
        known = http.post("/messages", json=warranty).json()
        assert known["sources"][0]["source"].endswith("warranty.md")
        assert known["reply"].endswith("[1]")
        handed = http.post("/messages", json={"customer": "ada", "message": GNOMES}).json()
        assert (handed["kind"], handed["hand_over"]) == ("hand-over", 1)
        (waiting,) = http.get("/queue").json()["queue"]
        assert waiting == json.loads(json.dumps(asdict(Store.open(shop / FILE).queue()[0])))
        kept = http.post("/queue/1/answer", json={"text": "No, hedgehogs like gnomes."}).json()
        assert (kept["customer"], kept["is_past_answer"]) == ("ada", True)
        assert http.get("/queue").json() == {"queue": []}
        assert len(http.get("/queue?answered=true").json()["queue"]) == 1
        shown = http.post("/messages", json={"customer": "ada", "message": "Please cancel order 48213."}).json()
        assert [earlier["answer"] for earlier in shown["answered"]] == ["No, hedgehogs like gnomes."]
        again = http.post("/messages", json={"customer": "bob", "message": GNOMES}).json()
    direct = Desk(Folder.open(shop), lm).reply(GNOMES, "eve")
    assert again == direct.to_dict()


def test_customers_at_the_same_time_do_not_meet(shop: Path, lm: memspan.LanguageModel) -> None:
    with running(shop, lm) as url, client(url) as http:

        def order(number: int) -> str:
            body = {"customer": f"customer/{number}", "message": f"Please cancel order {number}."}
            return str(http.post("/messages", json=body).json()["reply"])

        numbers = range(48210, 48218)
        with ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(order, numbers))
        assert all(f"Order {number} " in reply for number, reply in zip(numbers, replies, strict=True))
        forgotten = http.delete("/customers/customer/48210").json()
        assert (forgotten["customer"], forgotten["turns"]) == ("customer/48210", 1)
    assert Folder.open(shop).store.customer("customer/48211").turns == 1


def test_wrong_requests_are_told_in_a_sentence(shop: Path, lm: memspan.LanguageModel) -> None:
    with running(shop, lm, limits=Limits(requests_per_minute=6)) as url, client(url) as http:
        blank = http.post("/messages", json={"customer": "ada", "message": "  "})
        assert (blank.status_code, blank.json()["error"]["message"]) == (400, "The message must not be empty.")
        assert http.post("/messages", json={"message": "Hello"}).json()["error"]["param"] == "customer"
        assert http.post("/messages", json={"customer": "a", "message": "b", "c": 1}).status_code == 400
        unknown = http.post("/queue/7/answer", json={"text": "Yes."})
        assert (unknown.status_code, "no question 7" in unknown.json()["error"]["message"]) == (400, True)
        assert http.post("/queue/1/answer", json={"text": " "}).status_code == 400
        assert http.get("/queue", headers={"Origin": "http://example.org"}).status_code == 403
        assert http.get("/queue", headers={"Host": "example.org"}).status_code == 403
        assert http.get("/queue").status_code == 200
        assert http.get("/queue").status_code == 429


def test_keys_and_what_a_channel_may(shop: Path, lm: memspan.LanguageModel) -> None:
    with running(shop, lm, Keys({SHOP: "shop", MIA: "mia"})) as url:
        with client(url) as nobody, httpx2.Client(base_url=url) as outside:
            for method, path in (("POST", "/messages"), ("GET", "/queue"), ("DELETE", "/customers/ada"), ("GET", "/x")):
                assert nobody.request(method, path).status_code == 401, path
            assert outside.get("/health").status_code == outside.get("/ui").status_code == 200
            assert outside.get("/metrics").status_code == 401
        with client(url, SHOP) as channel:
            handed = channel.post("/messages", json={"customer": "ada", "message": GNOMES}).json()
            assert handed["hand_over"] == 1
            for method, path in (("GET", "/queue"), ("POST", "/queue/1/answer"), ("DELETE", "/customers/ada")):
                refused = channel.request(method, path, json={"text": "No."} if method == "POST" else None)
                assert refused.json()["error"]["code"] == "channel_key", path
        with client(url, MIA) as agent:
            assert len(agent.get("/queue").json()["queue"]) == 1
            assert agent.post("/queue/1/answer", json={"text": "No."}).status_code == 200


def test_the_page_reaches_nothing_but_its_own(shop: Path, lm: memspan.LanguageModel) -> None:
    with running(shop, lm) as url, httpx2.Client(base_url=url) as http:
        policy = http.get("/ui").headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        for name, file in FILES.items():
            assert http.get(f"/ui/{name}").content == file.read_bytes()
        assert http.get("/ui/ratings.js").status_code == 404
        assert http.get("/ui/..%2fserver.py").status_code in (401, 404)
    for name, file in FILES.items():
        text = file.read_text("utf-8")
        assert not re.search(r"https?://|//cdn|@import|innerHTML|insertAdjacentHTML|\beval\b", text), name
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=", text), name


def test_both_languages_have_all_words_and_the_page_has_the_english_ones() -> None:
    defined = re.findall(r"^  (en|zh): \{(.*?)^  \},", FILES["words.js"].read_text("utf-8"), re.DOTALL | re.MULTILINE)
    english, chinese = (dict(re.findall(r'(\w+): "((?:[^"\\]|\\.)*)"', words)) for _, words in defined)
    assert set(english) == set(chinese)
    for name, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[name])), name
    page = (PAGE / "page.html").read_text("utf-8")
    for name, text in re.findall(r'data-word="(\w+)"[^>]*>([^<]+)<', page):
        assert english[name] == text
    used = "".join(FILES[name].read_text("utf-8") for name in ("page.html", "page.js", "elements.js"))
    assert {name for name in english if f'"{name}"' not in used} == set()
    ids = set(re.findall(r'\$\("([\w-]+)"\)', used))
    assert {id for id in ids if f'id="{id}"' not in page} == set()


def test_every_route_stands_in_the_documentation(shop: Path, lm: memspan.LanguageModel) -> None:
    page = (ROOT / "docs" / "support.md").read_text("utf-8")
    with running(shop, lm) as url:
        paths = httpx2.get(f"{url}/openapi.json").json()["paths"]
    assert [path for path in paths if path.startswith("/v1/") and path.replace(":path", "") not in page] == []
