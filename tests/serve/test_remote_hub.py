"""A hub asked over HTTP answers what the same hub answers on its own machine, errors included."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from hub import errors
from hub.errors import HubError, HubUnreachable, UsageError
from hub.home import Home
from hub.local import LocalHub
from hub.operations import Operations
from hub.records import Base
from hub.remote import RemoteHub
from hub.wire import error_from
from serve.doors.listen import address, listen
from tests.conftest import acts, adapter_config, adapter_tensors, write_adapter
from tests.serve.conftest import Publish
from tests.serve.registry_api import serving

Ask = Callable[[Operations], Any]


@pytest.fixture
def here(home: Home, base: Base) -> Iterator[LocalHub]:
    with LocalHub.open(home, acts) as here:
        yield here


@pytest.fixture
def there(home: Home, base: Base) -> Iterator[RemoteHub]:
    with serving(home) as url, RemoteHub(url) as there:
        yield there


def test_every_reading_operation_gives_the_same_records(
    here: LocalHub, there: RemoteHub, published: Publish
) -> None:
    """Type and content, but for places on the hub's own disk."""
    for _ in range(3):
        published("acme/support")
    published("other")
    there.set_alias("acme/support@2", "canary", expect=0, force=False, why="try")
    asks: list[Ask] = [
        lambda hub: list(hub.adapters()),
        lambda hub: hub.resolve("acme/support"),
        lambda hub: hub.resolve("acme/support@canary", at="2099-01-01"),
        lambda hub: list(hub.history("acme/support")),
        lambda hub: list(hub.history("acme/support", "canary")),
        lambda hub: hub.aliases(),
        lambda hub: hub.aliases("other"),
        lambda hub: hub.lineage("acme/support@canary"),
        lambda hub: hub.diff("acme/support@1", "acme/support@2"),
        lambda hub: hub.manifest("acme/support@3"),
        lambda hub: list(hub.verify("other")),
        lambda hub: list(hub.verify(None, effect=False)),
        lambda hub: hub.gc(keep_days=0, dry_run=True),
        lambda hub: [finding for finding in hub.doctor() if finding.check != "room"],
    ]
    for number, ask in enumerate(asks):
        assert ask(there) == ask(here), number
    facts = here.show("acme/support@2")
    assert there.show("acme/support@2") == replace(facts, folder=None, store=None)
    numbers = [facts.number for facts in there.versions("acme/support")]
    assert numbers == [facts.number for facts in here.versions("acme/support")] == [3, 2, 1]


def test_pages_are_asked_for_as_they_are_gone_through(
    there: RemoteHub, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first item needs the first page only; all pages are one list."""
    monkeypatch.setattr("hub.remote._PAGE", 2)
    names = ["a", "b", "c", "d", "e"]
    for name in names[:3]:
        published(name)
    listing = there.adapters()
    assert next(listing).name == "a"
    published("d"), published("e")
    assert [entry.name for entry in listing] == names[1:]


REFUSED: list[Ask] = [
    lambda hub: hub.show("nothing"),
    lambda hub: hub.show("support@9"),
    lambda hub: hub.show("support@sha256:000000000000"),
    lambda hub: hub.show("a b"),
    lambda hub: hub.show("support@1*2+support"),
    lambda hub: hub.resolve("support", at="yesterday"),
    lambda hub: hub.resolve("support", at="2001-01-01"),
    lambda hub: list(hub.versions("nothing")),
    lambda hub: list(hub.history("nothing")),
    lambda hub: list(hub.history("../x")),
    lambda hub: hub.aliases("nothing"),
    lambda hub: hub.lineage("nothing"),
    lambda hub: hub.diff("support", "nothing"),
    lambda hub: hub.manifest("nothing"),
    lambda hub: list(hub.verify("nothing")),
    lambda hub: list(hub.verify("support", keys=["rsa"])),
    lambda hub: hub.promote("support@2", "production", expect=None, force=False, why=""),
    lambda hub: hub.promote("support@2", "production", expect=None, force=True, why=""),
    lambda hub: hub.promote("support@1", "production", expect=None, force=False, why=""),
    lambda hub: hub.promote("support@2", "production", expect=2, force=True, why="x"),
    lambda hub: hub.set_alias("support@2", "Bad", expect=None, force=False, why=""),
    lambda hub: hub.rollback("support", to=None, why=""),
    lambda hub: hub.rollback("support", to=2, why=""),
    lambda hub: hub.rollback("support", to=10**30, why=""),
    lambda hub: hub.rollback("nothing", to=None, why=""),
    lambda hub: hub.remove_alias("support", "production", why=""),
    lambda hub: hub.remove_alias("support", "canary", why=""),
    lambda hub: hub.protect("production", protected=False),
    lambda hub: hub.remove("support", whole_adapter=False, why=""),
    lambda hub: hub.remove("support", whole_adapter=True, why=""),
    lambda hub: hub.remove("support@2", whole_adapter=True, why="x"),
    lambda hub: hub.remove("support@7", whole_adapter=False, why=""),
    lambda hub: hub.gc(keep_days=-1, dry_run=True),
]


def test_errors_are_those_of_the_hub_itself(
    here: LocalHub, there: RemoteHub, published: Publish
) -> None:
    """Class, words, hint, exit code, and what else an error carries."""
    published("support"), published("support")
    for number, ask in enumerate(REFUSED):
        with pytest.raises(HubError) as known:
            ask(here)
        with pytest.raises(HubError) as told:
            ask(there)
        assert type(told.value) is type(known.value), number
        assert vars(told.value) == vars(known.value), number
        assert told.value.exit_code == known.value.exit_code


def _spoilt(folder: Path) -> Iterator[Path]:
    tensors = adapter_tensors()
    tensors[next(iter(tensors))][0, 0] = float("inf")
    yield write_adapter(folder / "inf", tensors)
    yield write_adapter(folder / "rank", None, adapter_config(r=2))
    yield write_adapter(folder / "base", None, adapter_config(base_model_name_or_path="other"))
    yield folder / "nowhere"
    pickle = write_adapter(folder / "pickle")
    (pickle / "adapter_model.safetensors").rename(pickle / "adapter_model.bin")
    yield pickle
    link = write_adapter(folder / "link")
    (link / "adapter_config.json").rename(link / "elsewhere")
    (link / "adapter_config.json").symlink_to(link / "elsewhere")
    yield link


def test_a_refused_publish_names_the_clients_own_files(
    here: LocalHub, there: RemoteHub, tmp_path: Path
) -> None:
    """The very words that publishing in the hub's own folder gives."""
    for folder in _spoilt(tmp_path / "spoilt"):
        with pytest.raises(HubError) as known:
            here.publish("support", folder, lineage={})
        with pytest.raises(HubError) as told:
            there.publish("support", folder, lineage={})
        assert vars(told.value) == vars(known.value), folder
        assert type(told.value) is type(known.value)
    assert list(here.adapters()) == []


def test_what_is_published_there_is_fetched_again(
    there: RemoteHub, here: LocalHub, tmp_path: Path
) -> None:
    """Byte for byte, with its card; the same bytes are the same version; a base by its digest."""
    folder = write_adapter(tmp_path / "made")
    base = here.registry.bases.get().digest
    published = there.publish("acme/support", folder, base=base, lineage={"seed": 7})
    assert (published.version, published.created, published.production) == (
        "acme/support@1",
        True,
        1,
    )
    assert not there.publish("acme/support", folder, lineage={}).created
    facts = there.fetch("acme/support", tmp_path / "fetched")
    assert facts.lineage["seed"] == 7
    theirs = here.home.adapters / "acme" / "support@1"
    for path in theirs.iterdir():
        assert (tmp_path / "fetched" / path.name).read_bytes() == path.read_bytes()
    with pytest.raises(errors.Conflict):
        there.fetch("acme/support", tmp_path / "fetched")


def test_a_file_that_gc_took_meanwhile_is_sent_again(
    there: RemoteHub, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that the hub had when it was looked for, and no longer when it was published."""
    folder = write_adapter(tmp_path / "made")
    sent = RemoteHub.publish
    has = there._hub.has
    taken = []

    def had(path: str) -> bool:
        if len(taken) < 2:
            taken.append(path)
            return True
        return has(path)

    monkeypatch.setattr(there._hub, "has", had)
    assert sent(there, "a", folder, lineage={}).version == "a@1"
    assert len(taken) == 2


def test_every_error_travels(home: Home) -> None:
    """Each class of the tree comes back as itself with all that it carries; codes are unique."""
    kinds = [kind for kind in vars(errors).values() if _is_error(kind)]
    codes = [kind.code for kind in kinds]
    assert len(set(codes)) == len(codes)
    for kind in kinds:
        if kind is errors.InvalidConfig:
            error: HubError = kind(["a", "b"], where="w")
        else:
            parameters = signature(kind).parameters.values()
            more = {p.name: "FAIL" for p in parameters if p.kind is p.KEYWORD_ONLY}
            error = kind("message", **more)
            error.where = "where"
        told = error_from(json.loads(json.dumps(error.to_openai())))
        assert type(told) is kind
        assert vars(told) == vars(error)
        assert str(told) == str(error)
    for body in (None, [], {}, {"error": "x"}, {"error": {"message": "x", "detail": None}}):
        assert error_from(body) is None


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, HubError)


def test_an_address_without_a_hub_is_told_from_one_with_another_server() -> None:
    """Nobody there, something else there, no address: each in its words, with what to do."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if "adapters?" in self.path else 404)
            self.end_headers()
            self.wfile.write(b'{"items": [{"a": 1}], "next": null}')

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        with RemoteHub(f"http://127.0.0.1:{server.server_port}") as there:
            for ask in (lambda: list(there.adapters()), lambda: there.show("a")):
                with pytest.raises(HubUnreachable, match="is no hub"):
                    ask()
        server.shutdown()
    with listen("127.0.0.1", 0) as listener:
        free = address(listener)
    with RemoteHub(free) as there, pytest.raises(HubUnreachable, match=free) as refused:
        list(there.adapters())
    assert "hub serve" in str(refused.value.hint)
    for url in ("localhost:8000", "ftp://x", "http://", "http://x:port", "http://x/?a=1"):
        with pytest.raises(UsageError, match="address"):
            RemoteHub(url)


def test_an_answer_that_breaks_off_is_told_as_such() -> None:
    """The hub dies in the middle of an answer: what was asked may be done or not."""
    with listen("127.0.0.1", 0) as listener:
        listener.setblocking(True)

        def break_off() -> None:
            connection, _ = listener.accept()
            with closing(connection):
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")

        threading.Thread(target=break_off).start()
        with RemoteHub(address(listener)) as there, pytest.raises(HubUnreachable, match="broke"):
            there.rollback("support", to=None, why="")


def test_a_password_for_a_proxy_stays_out_of_messages() -> None:
    """http://user:password@host is used, and not shown."""
    with listen("127.0.0.1", 0) as listener:
        free = address(listener).removeprefix("http://")
    with RemoteHub(f"http://me:secret@{free}") as there, pytest.raises(HubUnreachable) as refused:
        there.doctor()
    assert "secret" not in f"{refused.value} {refused.value.hint}"
