"""`hub serve` and API keys, as a user meets them: real processes, addresses beyond loopback."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.command import Hub


@pytest.fixture
def hub(tmp_path: Path) -> Hub:
    (tmp_path / "home").mkdir()
    hub = Hub(tmp_path / "home")
    hub.ok("init")
    return hub


@contextmanager
def serving(hub: Hub, *options: str) -> Iterator[tuple[str, str]]:
    """Its address on loopback, and the line that says who is let in."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hub", "serve", "--registry-only", "--port", "0", *options],
        cwd=hub.home,
        env=hub.environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        address = process.stderr.readline().split()[1]
        port = address.rpartition(":")[2]
        yield f"http://127.0.0.1:{port}", process.stderr.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        assert process.wait(20) == 0
        assert "Traceback" not in rest


def test_another_address_wants_a_key_first_and_always(hub: Hub) -> None:
    """Refused without one, with the words of what to run; with one everybody needs it, and when
    the last is revoked nobody gets in until there is another."""
    for options in ((), ("--require-keys",)):
        refused = hub("serve", "--registry-only", "--host", "0.0.0.0", "--port", "0", *options)
        assert refused.status == 1
        assert "no API key" in refused.stderr
        assert "hub keys create" in refused.stderr
    first = hub.ok("keys", "create", "first", "--scope", "admin").stdout.strip()
    with serving(hub, "--host", "0.0.0.0") as (url, said):
        assert "wanted from everybody; 1 living" in said
        named = {"host": "hub.example.org"}
        assert httpx.get(f"{url}/health", headers=named).status_code == 200
        adapters = f"{url}/hub/adapters"
        assert httpx.get(adapters, headers=named).status_code == 401
        bearer = {"authorization": f"Bearer {first}"}
        assert httpx.get(adapters, headers={**named, **bearer}).status_code == 200
        assert Hub(hub.home, key=first).ok("ls", "--hub", url).status == 0
        told = hub.ok("keys", "revoke", "first").stderr
        assert "refuse everybody" in told
        for headers in (bearer, {}):
            answer = httpx.get(adapters, headers=headers)
            assert answer.status_code == 401
            assert answer.json()["error"]["code"] == "invalid_api_key"
        again = hub.ok("keys", "create", "again").stdout.strip()
        answer = httpx.get(adapters, headers={"authorization": f"Bearer {again}"})
        assert answer.status_code == 200


def test_on_loopback_a_server_is_open_until_there_is_a_key(hub: Hub) -> None:
    """Each says so: `hub serve` what it does, `hub keys create` what it changes."""
    with serving(hub) as (url, said):
        assert "no API keys: everybody on this machine is let in" in said
        assert httpx.get(f"{url}/hub/adapters").status_code == 200
        assert "wants a key from everybody" in hub.ok("keys", "create", "first").stderr
        assert "wants a key from everybody" not in hub.ok("keys", "create", "second").stderr
        assert httpx.get(f"{url}/hub/adapters").status_code == 401


def test_without_a_living_key_a_hub_that_had_one_stays_closed(hub: Hub) -> None:
    """Started anew it lets nobody in, and says what opens it; with --without-keys everybody on this
    machine, until there is a key. That is refused where it contradicts, and beyond loopback."""
    with serving(hub, "--require-keys") as (url, said):
        assert "wanted from everybody; none living" in said
        assert httpx.get(f"{url}/hub/adapters").status_code == 401
    hub.ok("keys", "create", "first")
    living = hub("serve", "--registry-only", "--port", "0", "--without-keys")
    assert living.status == 2
    assert "of this hub's API keys 1 can" in living.stderr
    hub.ok("keys", "revoke", "first")
    with serving(hub) as (url, said):
        assert "nobody is let in" in said
        assert "--without-keys" in said
        assert httpx.get(f"{url}/hub/adapters").status_code == 401
    with serving(hub, "--without-keys") as (url, said):
        assert "no API keys: everybody on this machine is let in" in said
        assert httpx.get(f"{url}/hub/adapters").status_code == 200
        hub.ok("keys", "create", "second")
        assert httpx.get(f"{url}/hub/adapters").status_code == 401
    hub.ok("keys", "revoke", "second")
    for more, status, words in (
        (("--host", "0.0.0.0"), 1, "no API key"),
        (("--require-keys",), 2, "contradict"),
    ):
        refused = hub("serve", "--registry-only", "--port", "0", "--without-keys", *more)
        assert refused.status == status
        assert words in refused.stderr
