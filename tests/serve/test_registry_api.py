"""The registry over HTTP: pages, tags, files, publishing, and what never gets in."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import compile_path

from hub.home import Home
from hub.manifest import describe
from hub.records import Base
from hub.registry import Registry
from serve.settings import RegistrySettings
from tests.conftest import acts, adapter_tensors, write_adapter
from tests.serve.conftest import Gateway, Publish
from tests.serve.registry_api import serving

FILES = ("adapter_config.json", "adapter_model.safetensors")
JSON = {"content-type": "application/json"}


def client(url: str) -> httpx.Client:
    # Without TLS there is no certificate to verify, and reading the trusted ones takes a while.
    return httpx.Client(base_url=url, timeout=60, verify=False)


@pytest.fixture
def http(home: Home, base: Base) -> Iterator[httpx.Client]:
    with serving(home) as url, client(url) as http:
        yield http


def pages(http: httpx.Client, path: str, **query: Any) -> Iterator[list[Any]]:
    """The items of each page, as long as there is a next one."""
    cursor = None
    while True:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        answer = http.get(path, params=asked)
        page = answer.json()
        assert answer.status_code == 200, page
        yield page["items"]
        cursor = page["next"]
        assert ('rel="next"' in answer.headers.get("link", "")) == (cursor is not None)
        if cursor is None:
            return


def test_pages_hold_everything_once_while_more_is_published(
    http: httpx.Client, published: Publish
) -> None:
    """Adapters, versions and moves: what comes in between two pages moves nothing."""
    for name in ("b", "d", "f"):
        published(name)
    seen = []
    for items in pages(http, "/hub/adapters", limit=2):
        seen += [item["name"] for item in items]
        if len(seen) == 2:
            published("a"), published("c"), published("e")
    assert seen == ["b", "d", "e", "f"]
    for _ in range(4):
        published("b")
    numbers = []
    for items in pages(http, "/hub/adapters/b/-/versions", limit=2):
        numbers += [item["number"] for item in items]
        if len(numbers) == 2:
            published("b")
    assert numbers == [5, 4, 3, 2, 1]
    moved = []
    for number in (2, 3, 4):
        http.put("/hub/adapters/b/-/aliases/canary", json={"to": str(number)})
    for items in pages(http, "/hub/adapters/b/-/history", limit=1, alias="canary"):
        moved += [item["to_number"] for item in items]
        if len(moved) == 1:
            http.put("/hub/adapters/b/-/aliases/canary", json={"to": "1"})
    assert moved == [4, 3, 2]
    both = [item["alias"] for items in pages(http, "/hub/aliases", limit=1) for item in items]
    assert both == ["production", "canary", *["production"] * 5]


def test_a_page_that_can_not_be_is_refused(http: httpx.Client, published: Publish) -> None:
    """400 for limits out of range and for cursors of another list, or of nobody's."""
    published("a"), published("b"), published("b")
    cursor = http.get("/hub/adapters?limit=1").json()["next"]
    other = http.get("/hub/adapters/b/-/versions?limit=1").json()["next"]
    for query in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "cursor=%21",
        "cursor=bm8",
        f"cursor={other}",
    ):
        answer = http.get(f"/hub/adapters?{query}")
        assert (answer.status_code, "error" in answer.json()) == (400, True), query
    assert http.get(f"/hub/adapters/b/-/versions?cursor={cursor}").status_code == 400
    assert http.get(f"/hub/adapters?cursor={cursor}").json()["items"][0]["name"] == "b"


def test_a_versions_tag_changes_with_what_may_change(
    http: httpx.Client, published: Publish
) -> None:
    """Digest first; the same answer is 304, and an alias that moves makes another."""
    version = published("acme/support")
    path = f"/hub/adapters/{version}"
    answer = http.get(path)
    tag = answer.headers["etag"]
    assert tag.startswith(f'"{version.digest}.')
    assert answer.json()["folder"] is None
    again = http.get(path, headers={"if-none-match": f'"x", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    http.put("/hub/adapters/acme/support/-/aliases/canary", json={"to": "1"})
    changed = http.get(path, headers={"if-none-match": tag})
    assert (changed.status_code, changed.json()["aliases"]) == (200, ["canary", "production"])
    for same in (f"acme/support@sha256:{version.digest}", "acme/support@production"):
        assert http.get(f"/hub/adapters/{same}").headers["etag"] == changed.headers["etag"]


def test_files_are_the_published_bytes_tagged_by_their_hash(
    http: httpx.Client, published: Publish
) -> None:
    """Whole and in ranges; kept for ever under a number, asked for again under an alias."""
    version = published("support")
    for entry in version.manifest.files:
        path = f"/hub/adapters/{version}/-/files/{entry.path}"
        answer = http.get(path)
        assert hashlib.sha256(answer.content).hexdigest() == entry.sha256
        assert answer.headers["etag"] == f'"{entry.sha256}"'
        assert "immutable" in answer.headers["cache-control"]
        part = http.get(path, headers={"range": "bytes=10-29", "if-range": f'"{entry.sha256}"'})
        assert (part.status_code, part.content) == (206, answer.content[10:30])
        kept = http.get(path, headers={"if-none-match": f'"{entry.sha256}"'})
        assert kept.status_code == 304
        moving = http.get(f"/hub/adapters/support/-/files/{entry.path}")
        assert (moving.content, moving.headers["cache-control"]) == (answer.content, "no-cache")
    manifest = http.get(f"/hub/adapters/{version}/-/manifest")
    assert hashlib.sha256(manifest.content).hexdigest() == version.digest
    assert manifest.headers["etag"] == f'"{version.digest}"'
    card = http.get("/hub/adapters/support/-/card")
    assert card.text.startswith("---\n")
    assert "markdown" in card.headers["content-type"]
    missing = http.get(f"/hub/adapters/{version}/-/files/..%2f..%2fregistry.db")
    assert missing.status_code in (400, 404)


def test_a_damaged_file_is_not_given_out(
    http: httpx.Client, published: Publish, home: Home
) -> None:
    """A flipped byte on the hub's disk is an error, not an answer."""
    version = published("support")
    weights = home.adapters / str(version) / FILES[1]
    weights.chmod(0o644)
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    answer = http.get(f"/hub/adapters/{version}/-/files/{FILES[1]}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "integrity_error")


# -- publishing -----------------------------------------------------------------------------------


def upload(http: httpx.Client, folder: Path) -> list[dict[str, Any]]:
    """Send a folder's files; what a publish then names."""
    entries = [describe(folder / name, name) for name in FILES]
    for entry in entries:
        answer = http.put(
            f"/hub/blobs/{entry.sha256}",
            content=(folder / entry.path).read_bytes(),
            headers={"content-type": "application/octet-stream"},
        )
        assert answer.status_code == 201, answer.text
    return [asdict(entry) for entry in entries]


def test_what_is_uploaded_is_published_once(http: httpx.Client, tmp_path: Path, home: Home) -> None:
    """201 with the version, 200 for the same bytes again, and no upload stays behind."""
    folder = write_adapter(tmp_path / "made")
    body = {"files": upload(http, folder), "lineage": {"seed": 1}}
    headers = {"x-hub-user": "Zo%C3%AB"}
    first = http.post("/hub/adapters/acme/support/-/versions", json=body, headers=headers)
    assert (first.status_code, first.json()["version"]) == (201, "acme/support@1")
    for entry in body["files"]:
        assert http.head(f"/hub/blobs/{entry['sha256']}").status_code == 200
    again = http.post("/hub/adapters/acme/support/-/versions", json=body)
    assert (again.status_code, again.json()["created"]) == (200, False)
    shown = http.get("/hub/adapters/acme/support@1").json()
    assert (shown["published_by"], shown["lineage"]["seed"]) == ("Zoë", 1)
    assert list(home.scratch.iterdir()) == []


def test_files_that_were_not_uploaded_are_named(http: httpx.Client, tmp_path: Path) -> None:
    """409 with their hashes; nothing is published."""
    entries = [asdict(describe(write_adapter(tmp_path / "a") / name, name)) for name in FILES]
    answer = http.post("/hub/adapters/a/-/versions", json={"files": entries, "lineage": {}})
    assert answer.status_code == 409
    assert answer.json()["error"]["detail"]["missing"] == [entry["sha256"] for entry in entries]
    assert http.get("/hub/adapters").json()["items"] == []


def test_a_name_given_twice_overwrites_nothing(
    http: httpx.Client, published: Publish, home: Home, tmp_path: Path
) -> None:
    """The second of two files with one name would be written over a blob that the first is."""
    version = published("support")
    known = version.manifest.files[0]
    blob = home.blobs / known.sha256[:2] / known.sha256
    other = upload(http, write_adapter(tmp_path / "other", adapter_tensors(seed=50)))[1]
    files = [{**asdict(known)}, {**other, "path": known.path}]
    answer = http.post("/hub/adapters/a/-/versions", json={"files": files, "lineage": {}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_data")
    assert hashlib.sha256(blob.read_bytes()).hexdigest() == known.sha256


@pytest.mark.parametrize("name", ["../registry.db", "/etc/passwd", "a/b", ".hidden", ""])
def test_a_files_name_leads_nowhere_else(
    http: httpx.Client, tmp_path: Path, home: Home, name: str
) -> None:
    """Refused before anything is written."""
    before = home.registry.read_bytes()
    files = upload(http, write_adapter(tmp_path / "a"))
    files[0]["path"] = name
    answer = http.post("/hub/adapters/a/-/versions", json={"files": files, "lineage": {}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "adapter_rejected")
    assert home.registry.read_bytes() == before


def test_a_refused_adapter_is_told_by_its_check(http: httpx.Client, tmp_path: Path) -> None:
    """The gate runs at the hub; its words name the file, and not a folder of the hub's."""
    tensors = adapter_tensors()
    tensors[next(iter(tensors))][0, 0] = float("nan")
    files = upload(http, write_adapter(tmp_path / "a", tensors))
    answer = http.post("/hub/adapters/a/-/versions", json={"files": files, "lineage": {}})
    error = answer.json()["error"]
    assert (answer.status_code, error["detail"]["check"]) == (400, "finite")
    assert "adapter_model.safetensors" in error["message"]
    assert str(tmp_path) not in error["message"]


def test_bytes_that_are_not_what_they_say_are_not_kept(http: httpx.Client, home: Home) -> None:
    """A wrong hash is 400, and a client that hangs up leaves nothing."""
    sha256 = "0" * 64
    headers = {"content-type": "application/octet-stream"}
    answer = http.put(f"/hub/blobs/{sha256}", content=b"other", headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_data")

    def breaks_off() -> Iterator[bytes]:
        yield b"x" * 100_000
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        http.put(f"/hub/blobs/{sha256}", content=breaks_off(), headers=headers)
    assert http.head(f"/hub/blobs/{sha256}").status_code == 404
    for bad in ("x" * 64, "0" * 63, "0" * 64 + "%2f..%2fx"):
        answer = http.put(f"/hub/blobs/{bad}", content=b"", headers=headers)
        assert answer.status_code in (400, 404)
    assert list(home.scratch.iterdir()) == []


def test_a_file_has_a_limit_of_its_own(home: Home, base: Base) -> None:
    """Far over the limit of other bodies it passes as it comes; over its own it gets 413, whether
    its length was announced or it comes in chunks."""
    limits = RegistrySettings(max_body_bytes=10_000, max_blob_bytes=1_000_000)
    headers = {"content-type": "application/octet-stream"}
    with serving(home, settings=limits) as url, client(url) as http:

        def put(size: int) -> int:
            data = b"x" * size
            parts = (data[at : at + 65536] for at in range(0, size, 65536))
            path = f"/hub/blobs/{hashlib.sha256(data).hexdigest()}"
            return http.put(path, content=parts, headers=headers).status_code

        assert put(1_000_000) == 201
        assert put(1_000_001) == 413
        with closing(HTTPConnection(url.removeprefix("http://"), timeout=30)) as plain:
            plain.putrequest("PUT", f"/hub/blobs/{'0' * 64}")
            for name, value in {**headers, "content-length": "1000001"}.items():
                plain.putheader(name, value)
            plain.endheaders()
            assert plain.getresponse().status == 413
        body = {"files": [], "lineage": {"text": "x" * 10_000}}
        assert http.post("/hub/adapters/a/-/versions", json=body).status_code == 413


# -- what never gets in ---------------------------------------------------------------------------

CHANGES = [
    ("POST", "/hub/adapters/support/-/rollback"),
    ("POST", "/hub/adapters/support/-/versions"),
    ("POST", "/hub/gc"),
    ("POST", "/hub/verify"),
    ("PUT", "/hub/adapters/support/-/aliases/canary"),
    ("PUT", "/hub/protected-aliases/canary"),
    ("PUT", f"/hub/blobs/{'0' * 64}"),
    ("DELETE", "/hub/adapters/support"),
    ("DELETE", "/hub/adapters/support@1"),
    ("DELETE", "/hub/adapters/support/-/aliases/canary"),
]


def test_a_page_on_another_site_changes_nothing(
    http: httpx.Client, published: Publish, home: Home
) -> None:
    """What browsers send unasked is 415, the question before the rest gets no yes, and a browser
    that says who asks is refused whatever it sends."""
    published("support")
    before = home.registry.stat().st_mtime_ns
    evil = {"origin": "https://evil.example"}
    for method, path in CHANGES:
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            sent = {"content-type": kind, **evil}
            assert http.request("POST", path, content=b"{}", headers=sent).status_code == 415
        asks = {**evil, "access-control-request-method": method}
        preflight = http.request("OPTIONS", path, headers=asks)
        assert preflight.status_code >= 400
        assert not [name for name in preflight.headers if name.startswith("access-control")]
        for site in ("cross-site", "same-site"):
            headers = {**JSON, **evil, "sec-fetch-site": site}
            answer = http.request(method, path, content=b"{}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "origin_refused")
    assert home.registry.stat().st_mtime_ns == before
    assert http.get("/hub/adapters/support").json()["versions"] == 1


def test_the_hubs_own_page_may_ask(http: httpx.Client, published: Publish) -> None:
    """The console's requests pass: same-origin, as browsers tell."""
    published("support")
    headers = {"origin": str(http.base_url), "sec-fetch-site": "same-origin"}
    body = {"to": "1"}
    path = "/hub/adapters/support/-/aliases/canary"
    assert http.put(path, json=body, headers=headers).status_code == 200
    assert http.request("DELETE", path, headers=headers).status_code == 200


# -- together with the rest -----------------------------------------------------------------------


async def test_the_gateway_follows_a_change_made_over_http(
    gateway: Gateway, published: Publish
) -> None:
    """Promotion and publishing through the API hold at the next request."""
    published("support"), published("support")
    assert (await gateway.chat("support")).json()["model"] == "support@1"
    promoted = await gateway.http.put(
        "/hub/adapters/support/-/aliases/production",
        json={"to": "2", "action": "promote", "force": True, "why": "test"},
    )
    assert promoted.status_code == 200, promoted.text
    assert (await gateway.chat("support")).json()["model"] == "support@2"
    back = await gateway.http.post("/hub/adapters/support/-/rollback", json={})
    assert back.json()["to_number"] == 1
    assert (await gateway.chat("support")).json()["model"] == "support@1"


def test_fifty_readers_during_promotions_meet_no_error(
    http: httpx.Client, published: Publish
) -> None:
    """Every answer is 200, and names a version that production was."""
    published("support"), published("support")
    done, wrong = threading.Event(), []

    def read() -> None:
        with client(str(http.base_url)) as reader:
            while not done.is_set():
                for path in ("support/-/resolve", "support@production", "support/-/history"):
                    answer = reader.get(f"/hub/adapters/{path}")
                    if answer.status_code != 200:
                        wrong.append(answer.text)

    readers = [threading.Thread(target=read) for _ in range(50)]
    for reader in readers:
        reader.start()
    for turn in range(20):
        body = {"to": str(2 - turn % 2), "force": True, "why": "turn"}
        answer = http.put("/hub/adapters/support/-/aliases/production", json=body)
        assert answer.status_code == 200, answer.text
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert len(http.get("/hub/adapters/support/-/history?limit=1000").json()["items"]) == 21


def test_a_slow_publish_keeps_no_reader_waiting(home: Home, base: Base, tmp_path: Path) -> None:
    """While two effect checks run, everything else is answered."""
    going, go_on = threading.Semaphore(0), threading.Event()

    def slow(base_source: str, folder: Path) -> Any:
        going.release()
        go_on.wait(30)
        return acts(base_source, folder)

    with ExitStack() as stack:
        url = stack.enter_context(serving(home, slow))
        http = stack.enter_context(client(url))
        publishing = []
        for seed in (1, 2):
            files = upload(http, write_adapter(tmp_path / str(seed), adapter_tensors(seed)))
            body = {"files": files, "lineage": {}}
            asked = (f"{url}/hub/adapters/a{seed}/-/versions",)
            publishing.append(
                threading.Thread(target=httpx.post, args=asked, kwargs={"json": body})
            )
        stack.callback(go_on.set)
        for thread in publishing:
            thread.start()
            assert going.acquire(timeout=20)
        assert http.get("/hub/adapters").json()["items"] == []
        go_on.set()
        for thread in publishing:
            thread.join()
        assert [entry["name"] for entry in http.get("/hub/adapters").json()["items"]] == [
            "a1",
            "a2",
        ]


def test_a_server_without_an_engine_says_so(http: httpx.Client) -> None:
    """A call of OpenAI's is a 404 that names the reason; health and readiness are plain."""
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/responses"), ("POST", "/tokenize")):
        answer = http.request(method, path, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_engine")
        assert "--registry-only" in answer.json()["error"]["message"]
    assert http.get("/health").json() == {"status": "ok"}
    assert http.get("/ready").status_code == 200


def test_the_description_is_whole(http: httpx.Client, registry: Registry) -> None:
    """/openapi.json: every route of the registry has a summary and says what it answers."""
    described = http.get("/openapi.json").json()
    paths = {path: facts for path, facts in described["paths"].items() if path.startswith("/hub")}
    operations = [facts for path in paths.values() for facts in path.values()]
    assert len(operations) > 25
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    for path, methods in paths.items():
        for method, operation in methods.items():
            assert operation["summary"], path
            answers = operation["responses"]
            good = answers.get("200") or answers["201"]
            if method != "head":
                (content,) = good["content"].items()
                assert content[0] != "application/json" or content[1], (method, path)
            assert answers["4XX"]["content"]["application/json"]["schema"], (method, path)
            # Nothing is described that the server would not route.
            assert compile_path(path)
