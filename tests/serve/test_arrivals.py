"""Every request has an id that can be followed, and in JSON logs a line that tells of it."""

import json
import logging
import os
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from hub.home import Home
from hub.records import Base
from serve.logs import JsonLines, request_id
from tests.serve.conftest import Gateway, Publish
from tests.serve.engine_double import EngineDouble


async def test_every_answer_has_an_id_of_its_own(gateway: Gateway) -> None:
    """Good answers, refusals at the door, what is not there, and what failed."""
    answers = [
        await gateway.chat("base"),
        await gateway.chat("nope"),
        await gateway.http.get("/health"),
        await gateway.http.get("/nothing"),
        await gateway.http.get("/v1/models", headers={"host": "evil.example"}),
        await gateway.http.post("/v1/completions", content=b"{}"),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert all(made.startswith("req_") for made in ids)
    assert len(set(ids)) == len(ids)


async def test_the_clients_own_id_is_kept(gateway: Gateway) -> None:
    """Once, as it came; the engine's answer does not change with it."""
    for path in ("/health", "/nothing"):
        answer = await gateway.http.get(path, headers={"x-request-id": "trace-1/Ä".encode()[:7]})
        assert answer.headers.get_list("x-request-id") == ["trace-1"]


@pytest.mark.parametrize("given", [b"", b"a b", b"x" * 129, "é".encode(), b"a\tb"])
async def test_an_id_that_could_break_a_log_line_is_replaced(
    gateway: Gateway, given: bytes
) -> None:
    """Too long, blank, or beyond printable ASCII."""
    answer = await gateway.http.get("/health", headers={"x-request-id": given})
    assert answer.headers["x-request-id"].startswith("req_")


async def test_a_line_tells_who_answered_and_never_what(
    gateway: Gateway,
    published: Publish,
    double: EngineDouble,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Ids, version, outcome, tokens and times; not a word of the conversation."""
    published("support")
    caplog.set_level(logging.INFO, logger="serve")
    caplog.handler.setFormatter(JsonLines())
    headers = {"x-request-id": "mine"}
    body = {"model": "support", "messages": [{"role": "user", "content": "a secret"}]}
    for more in ({}, {"stream": True}):
        await gateway.http.post("/v1/chat/completions", json=body | more, headers=headers)
    double.faults = ["unavailable"]
    await gateway.http.post("/v1/chat/completions", json=body, headers=headers)
    lines = [json.loads(line) for line in caplog.text.splitlines()]
    entries = gateway.logged()[::-1]
    served = [line for line in lines if line["logger"] == "serve.doors.arrivals"]
    assert [line["interaction"] for line in served] == [entry.id for entry in entries]
    for line in served:
        assert (line["request_id"], line["status"], line["adapter"]) == ("mine", 200, "support@1")
        assert (line["method"], line["path"]) == ("POST", "/v1/chat/completions")
        assert (line["prompt_tokens"], line["completion_tokens"]) == (3, 7)
        assert line["outcome"] == "complete"
        assert line["ms"] > 0
    assert served[0]["ttft_ms"] is None
    assert served[1]["ttft_ms"] > 0
    (warning,) = [line for line in lines if line["logger"] == "serve.requests.dispatch"]
    assert (warning["request_id"], warning["level"]) == ("mine", "warning")
    assert "secret" not in caplog.text
    assert "in so many words" not in caplog.text


def test_a_traceback_is_one_line_too() -> None:
    """Whatever a record holds, its line is one JSON object."""
    request_id.set(None)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.getLogger("x").makeRecord(
            "x",
            logging.ERROR,
            "f",
            1,
            "it %s",
            ("broke",),
            sys.exc_info(),
            extra={"fields": {1: 2}},
        )
    text = JsonLines().format(record)
    assert "\n" not in text
    line = json.loads(text)
    assert (line["message"], line["1"]) == ("it broke", 2)
    assert line["traceback"].endswith("ValueError: two\nlines\n")
    assert "request_id" not in line


def test_a_gateway_told_so_writes_json_to_stderr(home: Home, base: Base) -> None:
    """The real `hub serve`: each line of a request is JSON, and nothing else is on stdout."""
    with EngineDouble(base.name) as double:
        process = subprocess.Popen(
            [sys.executable, "-m", "hub", "serve", "--port", "0", "--engine", double.url,
             "--log-format", "json"],
            cwd=home.root,
            env={**os.environ, "HUB_HOME": str(home.root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            assert process.stderr is not None
            ready = next(line for line in process.stderr if line.startswith("ready: "))
            url = ready.split()[1].removesuffix("/v1")
            with pytest.raises(urllib.error.HTTPError):
                urllib.request.urlopen(f"{url}/v1/models/nope", timeout=10)
        finally:
            process.terminate()
            out, err = process.communicate(timeout=20)
    assert out == ""
    line = json.loads(next(line for line in err.splitlines() if line.startswith("{")))
    assert (line["path"], line["status"]) == ("/v1/models/nope", 404)
    assert line["request_id"].startswith("req_")
