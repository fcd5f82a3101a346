"""API keys at the gateway: who is let in, and for what; at once, and without a trace of them."""

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from fastapi import FastAPI
from starlette.routing import Mount, Route

from hub.errors import EngineError
from hub.evaluation.ask import Question, ask
from hub.home import Home
from hub.registry import Registry
from serve.app import bare_app, make_app
from serve.caller import NOBODY, Caller, caller, rules_of
from serve.doors.access import is_open
from serve.doors.keyring import Keyring
from serve.registry_server import make_registry_app
from serve.routes.openai import Forwarded
from serve.run import make_engines
from serve.settings import RegistrySettings, Settings
from tests.command import Hub
from tests.serve.conftest import MESSAGES, Gateway, Publish, running
from tests.serve.engine_double import EngineDouble
from tests.serve.keyed import Keys, inner, keys, send

__all__ = ["keys"]

PART = re.compile(r"\{(\w+)(:path)?\}")


# -- every route -----------------------------------------------------------------------------------


def test_every_route_declares_who_may_use_it(gateway: Gateway, settings: Settings) -> None:
    """A new route without a rule fails here (and is a whole admin's alone until it has one)."""
    served = inner(make_app(gateway.parts, settings))
    only = inner(
        make_registry_app(
            gateway.parts.registry, gateway.parts.hubs, gateway.parts.uploads, RegistrySettings()
        )
    )
    undeclared = [
        route
        for app in (served, only)
        for route in app.routes
        if not rules_of(route) and not _has_its_own_rule(route)
    ]
    assert undeclared == []


def _has_its_own_rule(route: Any) -> bool:
    """What is no FastAPI route: the engine's calls, the console's files and the API's description,
    which `Forwarded` and `Access` see to."""
    if isinstance(route, Mount):
        return route.path == "/console"
    return _is_the_engines(route) or getattr(route, "path", "") == "/openapi.json"


def _is_the_engines(route: Any) -> bool:
    return isinstance(getattr(route, "endpoint", None), Forwarded)


async def test_a_route_without_a_rule_is_a_whole_admins_alone() -> None:
    """Forgetting a rule shuts a route; it never opens one."""
    app = bare_app()

    @app.get("/new")
    async def new() -> str:
        return "in"

    whole, scopes = frozenset({"infer", "feedback", "admin"}), frozenset({"infer", "feedback"})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        for asking, status in (
            (Caller(whole), 200),
            (Caller(whole, frozenset({"acme"})), 403),
            (Caller(scopes), 403),
            (NOBODY, 403),
        ):
            caller.set(asking)
            assert (await http.get("/new")).status_code == status


def requests_to(app: FastAPI) -> Iterator[tuple[str, str, str]]:
    """Method, path template and a path for every route."""
    for route in app.routes:
        template = getattr(route, "path", "")
        for method in sorted(getattr(route, "methods", None) or {"GET"}):
            filled = template.replace("{sha256}", "0" * 64).replace("{selector:path}", "1")
            yield method, template, PART.sub(lambda m: "acme/x" if m[2] else "x", filled)


async def test_without_a_valid_key_nothing_but_probes_and_the_page(
    gateway: Gateway, settings: Settings, keys: Keys
) -> None:
    """401 in OpenAI's shape for none, a wrong, a revoked and an expired key, on every route."""
    revoked = keys("gone", "admin")
    keys("stays")
    keys.revoke("gone")
    headers: list[dict[str, str]] = [
        {},
        revoked,
        {"authorization": "Bearer loom_0123456789ab_" + "x" * 40},
        {"authorization": "Basic " + revoked["authorization"][7:]},
        {"authorization": "Bearer"},
        {"authorization": "Bearer \xff".encode("latin-1")},  # type: ignore[dict-item]
    ]
    for method, _, path in requests_to(inner(make_app(gateway.parts, settings))):
        for given in headers[: 2 if method != "GET" else 6]:
            answer = await send(gateway, method, path, given)
            if is_open(method, path):
                assert answer.status_code in (200, 307), path
                continue
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            if method != "HEAD":
                assert answer.json()["error"]["code"] == "invalid_api_key"
                assert "loom_0" not in answer.text
    assert (await gateway.http.get("/health")).status_code == 200
    assert (await gateway.http.get("/ready")).json() == {"state": "ready"}
    page = await gateway.http.get("/console/")
    assert page.status_code == 200
    assert (await gateway.http.post("/console/", json={})).status_code == 401


READ = {"infer"}
SAID = {"feedback"}
OWN = {"admin"}
TRAINING = ("/v1/files", "/v1/fine_tuning/")
SCOPES = {
    "GET /metrics": READ, "GET /hub/residency": READ, "GET /hub/suggestions": READ,
    "GET /hub/interactions/{interaction_id}": SAID, "POST /hub/feedback": SAID,
    "POST /hub/comparisons": SAID | READ,
    "GET /hub/comparisons/{comparison_id}/stream": SAID | READ,
    "POST /hub/comparisons/{comparison_id}/vote": SAID,
    "GET /hub/doctor": OWN, "GET /hub/keys": OWN, "HEAD /hub/blobs/{sha256}": OWN,
    "GET /openapi.json": set(), "HEAD /openapi.json": set(),
}  # fmt: skip


async def test_a_key_may_what_its_scopes_say(
    gateway: Gateway, settings: Settings, keys: Keys, published: Publish
) -> None:
    """Reading wants infer, saying feedback, and whatever changes something admin: else 403."""
    published("acme/x")
    given = {name: keys(name, name) for name in ("infer", "feedback", "admin")}
    tried = 0
    app = inner(make_app(gateway.parts, settings))
    engines = {r.path for r in app.routes if isinstance(r, Route) and _is_the_engines(r)}
    for method, template, path in requests_to(app):
        if is_open(method, path) or path == "/console":
            continue
        reading = method in ("GET", "HEAD") or template in engines or template.startswith("/v1/")
        reading = reading and not template.startswith(TRAINING)
        wanted = SCOPES.get(f"{method} {template}", READ if reading else OWN)
        for name, headers in given.items():
            answer = await send(gateway, method, path, headers)
            may = name == "admin" or wanted <= {name}
            refused = answer.status_code == 403
            assert refused is not may, (method, template, name, answer.text)
            if refused and method != "HEAD":
                assert answer.json()["error"]["code"] == "insufficient_scope"
            tried += 1
    assert tried > 100
    # Not even the refusal tells whether there is something.
    for path in ("/hub/adapters/acme/x", "/hub/adapters/acme/none"):
        answer = await gateway.http.get(path, headers=given["feedback"])
        assert answer.json()["error"]["message"].startswith("this API key has no scope for this")


# -- at once, and what is kept ---------------------------------------------------------------------


async def test_keys_count_from_the_next_request_on(gateway: Gateway, keys: Keys) -> None:
    """The first key closes an open gateway, a revoked one opens nothing, nor does the last."""
    assert (await gateway.http.get("/v1/models")).status_code == 200
    first = keys("first")
    assert (await gateway.http.get("/v1/models")).status_code == 401
    assert (await gateway.http.get("/v1/models", headers=first)).status_code == 200
    keys.revoke("first")
    for headers in (first, {}):
        assert (await gateway.http.get("/v1/models", headers=headers)).status_code == 401
    assert (await gateway.http.get("/v1/models", headers=keys("again"))).status_code == 200


async def test_an_expired_key_opens_nothing(home: Home, registry: Registry, keys: Keys) -> None:
    """Neither does one that expires while the gateway runs, without anything being written."""
    headers = keys("short", expires_at="2090-01-01")
    keyring = Keyring(registry)
    assert keyring.caller(headers["authorization"]).key
    key = keyring._keys[keys.made[0].key.id]
    past = replace(key.facts, expires_at="2020-01-01T00:00:00.000Z")
    keyring._keys[key.facts.id] = replace(key, facts=past)
    with pytest.raises(Exception, match="wants an API key"):
        keyring.caller(headers["authorization"])


async def test_a_stream_outlives_its_key(
    gateway: Gateway, keys: Keys, double: EngineDouble
) -> None:
    """Revoked while it answers: that answer comes to its end, the next request is refused."""
    double.token_delay = 0.05
    body = {"model": "base", "messages": MESSAGES, "stream": True}
    headers = keys("brief")
    async with gateway.http.stream(
        "POST", "/v1/chat/completions", json=body, headers=headers
    ) as answer:
        lines = answer.aiter_lines()
        assert (await anext(lines)).startswith("data: ")
        keys.revoke("brief")
        again = await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        assert again.status_code == 401
        assert [line async for line in lines if line][-1] == "data: [DONE]"


async def test_who_is_refused_at_the_door_is_counted(gateway: Gateway, keys: Keys) -> None:
    """By reason, without a name: whoever knocks may send any."""
    limited = keys("slow", rate_per_minute=1)
    for headers in ({}, limited, limited, limited):
        await gateway.http.get("/v1/models", headers=headers)
    series = (await gateway.http.get("/metrics", headers=keys("whole"))).text
    assert 'hub_requests_turned_away_total{reason="key"} 1.0' in series
    assert 'hub_requests_turned_away_total{reason="rate"} 2.0' in series


async def test_required_keys_are_wanted_without_any(
    home: Home, settings: Settings, keys: Keys
) -> None:
    """--require-keys: nobody comes in until there is a key."""
    settings = replace(settings, require_keys=True)
    async with running(home, settings, make_engines(home, settings)) as gateway:
        assert (await gateway.http.get("/v1/models")).status_code == 401
        assert (await gateway.http.get("/v1/models", headers=keys("x"))).status_code == 200


async def test_the_openai_client_works_with_a_key(
    gateway: Gateway, keys: Keys, published: Publish
) -> None:
    """`api_key` is all it takes; wrong ones and foreign models raise its own errors."""
    published("acme/x"), published("other/x")
    secret = keys("acme", "infer", "acme")["authorization"].removeprefix("Bearer ")
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=secret) as client:
        answer = await client.chat.completions.create(model="acme/x", messages=MESSAGES)
        assert answer.model == "acme/x@1"
        assert [m.id async for m in client.models.list()] == ["tiny", "acme/x", "acme/x@1"]
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="other/x", messages=MESSAGES)
        assert missing.value.code == "model_not_found"
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="acme/x", messages=MESSAGES)
        assert refused.value.code == "invalid_api_key"


async def test_any_host_name_will_do_for_a_key(gateway: Gateway, keys: Keys) -> None:
    """Where a key is wanted, the gateway may have a name; what pages could send stays refused."""
    named = {"host": "loom.example.org"}
    assert (await gateway.http.get("/v1/models", headers=named)).status_code == 403
    headers = {**named, **keys("x")}
    assert (await gateway.http.get("/v1/models", headers=headers)).status_code == 200
    assert (await gateway.http.get("/health", headers=named)).status_code == 200
    across = {**headers, "sec-fetch-site": "cross-site"}
    body = {"model": "base", "messages": MESSAGES}
    answer = await gateway.http.post("/v1/chat/completions", json=body, headers=across)
    assert answer.json()["error"]["code"] == "origin_refused"


async def test_histories_name_the_key(gateway: Gateway, keys: Keys, published: Publish) -> None:
    """Not what a client claims to be; the interaction log has the key's public id."""
    published("support"), published("support")
    headers = {**keys("ada", "admin"), "x-hub-user": "mallory"}
    moving = {"to": "2", "action": "set", "force": True, "why": "x"}
    path = "/hub/adapters/support/-/aliases/production"
    move = (await gateway.http.put(path, json=moving, headers=headers)).json()
    assert move["who"] == "ada"
    body = {"model": "support", "messages": MESSAGES, "user": "bob"}
    await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    (entry,) = gateway.logged()
    assert (entry.key, entry.user) == (keys.made[0].key.id, "bob")


async def test_no_secret_is_written_anywhere(
    gateway: Gateway, keys: Keys, caplog: pytest.LogCaptureFixture, double: EngineDouble
) -> None:
    """Not in a log line, an error, an answer, the hub's files, or what the engine is sent."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("serve").setLevel(logging.DEBUG)
    good = keys("ada", "admin")
    wrong = {"authorization": "Bearer loom_0123456789ab_" + "Z" * 40}
    said = []
    for headers in (good, wrong):
        for path in ("/v1/models", "/v1/models/none", "/hub/keys", "/metrics", "/hub/nothing"):
            said.append((await gateway.http.get(path, headers=headers)).text)
        body = {"model": "base", "messages": MESSAGES}
        answer = await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
        said.append(f"{answer.text} {answer.headers}")
    said += [record.getMessage() + str(vars(record)) for record in caplog.records]
    said += [repr(request) for request in double.asked]
    files = b"".join(p.read_bytes() for p in gateway.home.root.rglob("*") if p.is_file())
    for headers in (good, wrong):
        random = headers["authorization"].rpartition("_")[2]
        assert random.encode() not in files
        for text in said:
            assert random not in text
    lines = [vars(r)["fields"] for r in caplog.records if "fields" in vars(r)]
    assert {line.get("key") for line in lines} == {"ada", None}


async def test_a_check_asks_sqlite_for_nothing_but_news(home: Home, registry: Registry) -> None:
    """`data_version`, and the keys again only when something has changed."""
    keys = Keys(home)
    header = keys("x")["authorization"]
    keyring = Keyring(registry)
    statements: list[str] = []
    registry._db.conn.set_trace_callback(statements.append)
    for _ in range(50):
        keyring.caller(header)
    assert set(statements) == {"PRAGMA data_version"}
    keys("y")
    statements.clear()
    keyring.caller(header)
    assert len([s for s in statements if "api_keys" in s]) == 1
    registry._db.conn.set_trace_callback(None)


async def test_commands_send_the_key_of_their_environment(
    gateway: Gateway, keys: Keys, tmp_path: Path
) -> None:
    """`hub chat` and `hub eval` with HUB_KEY; without, one line that says what is wanted."""
    secret = keys("chat")["authorization"].removeprefix("Bearer ")
    chat = ("chat", "base", "Hello", "--server", gateway.url)
    answered = await asyncio.to_thread(Hub(tmp_path, key=secret), *chat)
    assert answered.status == 0, answered.stderr
    refused = await asyncio.to_thread(Hub(tmp_path), *chat)
    assert refused.status == 1
    assert "wants an API key" in refused.stderr
    assert "HUB_KEY" in refused.stderr
    assert len(refused.stderr.splitlines()) <= 2
    questions = [Question(MESSAGES, "x")]
    asking = partial(ask, gateway.url, ["base"], questions, max_tokens=4, concurrency=1)
    ((answer,),) = await asyncio.to_thread(asking, progress=lambda: None, key=secret)
    assert answer.version == "tiny"
    with pytest.raises(EngineError, match="wants an API key"):
        await asyncio.to_thread(asking, progress=lambda: None)


async def test_a_stranger_is_refused_before_the_body_is_read(gateway: Gateway, keys: Keys) -> None:
    """Nobody without a key can make the gateway hold what it sends."""
    keys("x")
    host, port = gateway.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8000000\r\n"
    writer.write(f"{head}content-type: application/json\r\n\r\n{{".encode())
    status = await asyncio.wait_for(reader.readline(), 20)
    assert b" 401 " in status
    writer.close()
