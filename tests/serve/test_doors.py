"""What never gets in, and how it is told."""

import asyncio
from functools import partial

import httpx
import pytest

from hub.errors import AddressRefused, InvalidConfig
from hub.records import Base
from serve.doors.listen import address, listen
from serve.settings import RegistrySettings, Settings
from tests.serve.conftest import MESSAGES, Gateway
from tests.serve.engine_double import EngineDouble

BODY = {"model": "base", "messages": MESSAGES}


def _port(gateway: Gateway) -> str:
    return gateway.url.rpartition(":")[2]


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
async def test_another_sites_name_is_refused(gateway: Gateway, host: str) -> None:
    """DNS rebinding: the Host header is the attacker's name; nothing answers to it."""
    for path in ("/v1/models", "/console/", "/hub/adapters", "/health"):
        answer = await gateway.http.get(path, headers={"host": host})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "host_refused"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
async def test_loopback_names_are_answered(gateway: Gateway, host: str) -> None:
    """With and without a port."""
    for value in (host, f"{host}:{_port(gateway)}"):
        answer = await gateway.http.get("/v1/models", headers={"host": value})
        assert answer.status_code == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None]
)
async def test_only_json_changes_anything(
    gateway: Gateway, double: EngineDouble, kind: str | None
) -> None:
    """CSRF: the content types that browsers send across sites unasked get 415 everywhere."""
    headers = {"content-type": kind} if kind else {}
    for path in ("/v1/chat/completions", "/hub/feedback", "/hub/comparisons"):
        answer = await gateway.http.post(path, content=b"{}", headers=headers)
        assert answer.status_code == 415
        assert answer.json()["error"]["code"] == "json_only"
    assert double.asked == []


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_over_the_limit_gets_413(
    gateway: Gateway, settings: Settings, double: EngineDouble, announced: bool
) -> None:
    """Whether its length was announced or it comes in chunks; and the server stays well."""
    size = settings.max_body_bytes + 1

    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(0, size, 1 << 16):
            yield b" " * (1 << 16)

    content = b" " * size if announced else chunks()
    headers = {"content-type": "application/json"}
    try:
        answer = await gateway.http.post("/v1/chat/completions", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_large"
    except (httpx.WriteError, httpx.ReadError):
        pass  # the server may hang up while the client still sends
    assert double.asked == []
    assert (await gateway.http.post("/v1/chat/completions", json=BODY)).status_code == 200


async def test_a_client_that_goes_before_its_request_is_whole_is_no_bad_request(
    gateway: Gateway, double: EngineDouble
) -> None:
    """It is not counted as one, and nothing of it reaches an engine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(_port(gateway)))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"content-type: application/json\r\ncontent-length: 100\r\n\r\n{"
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    answer = await gateway.http.post("/v1/chat/completions", json=BODY)
    assert answer.status_code == 200
    counted = [
        line
        for line in (await gateway.http.get("/metrics")).text.splitlines()
        if line.startswith("hub_requests_total")
    ]
    assert len(counted) == 1
    assert 'status="200"' in counted[0]


async def test_unknown_paths_and_methods_have_openais_shape(gateway: Gateway) -> None:
    """404 and 405 that any client can read."""
    missing = await gateway.http.get("/v1/nothing")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "not_found")
    wrong = await gateway.http.get("/v1/chat/completions")
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (405, "method_not_allowed")


async def test_the_console_loads_nothing_from_elsewhere(gateway: Gateway) -> None:
    """/ and /console lead to /console/, which has a strict policy."""
    for path in ("/", "/console"):
        answer = await gateway.http.get(path)
        assert answer.headers["location"] == "/console/"
    page = await gateway.http.get("/console/")
    assert page.status_code == 200
    assert "text/html" in page.headers["content-type"]
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert (await gateway.http.get("/console/../settings.py")).status_code == 404


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org"])
def test_only_loopback_is_listened_on(base: Base, host: str) -> None:
    """Without an API key another address is refused, saying how to make one; with one it is not."""
    for host_settings in (partial(Settings, base=base), RegistrySettings):
        with pytest.raises(AddressRefused, match="no API key") as refused:
            host_settings(host=host, require_keys=True)
        assert "hub keys create" in str(refused.value.hint)
        assert host_settings(host=host, keyed=True).host == host


def test_a_port_in_use_is_said_before_anything_starts() -> None:
    """One line that names the port and the way out."""
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert address(taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(AddressRefused, match=f"port {port} on 127.0.0.1 is in use") as refused:
            listen("127.0.0.1", port)
    assert "--port" in str(refused.value.hint)


def test_all_unusable_settings_are_named_together(base: Base) -> None:
    """One round of mending is enough."""
    with pytest.raises(InvalidConfig) as refused:
        Settings(base=base, port=70000, max_lora_rank=48, max_loras=8, max_cpu_loras=4)
    assert len(refused.value.problems) == 3
