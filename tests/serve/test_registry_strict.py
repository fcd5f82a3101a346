"""The registry over HTTP: what is odd but allowed, and what is malformed."""

from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from hub.home import Home
from hub.keys import read_signing_key
from hub.registry import Registry
from hub.signing import sign_manifest
from serve.settings import RegistrySettings
from tests.conftest import acts
from tests.serve.conftest import Publish
from tests.serve.registry_api import serving
from tests.serve.test_registry_api import JSON, client, http

__all__ = ["http"]

_FILE = "/hub/adapters/support@1/-/files/adapter_config.json"


def test_broken_text_and_wrong_kinds_of_numbers_are_400(
    http: httpx.Client, published: Publish
) -> None:
    """Half a surrogate pair, control characters, and what JSON does not call an integer."""
    published("support")
    published("support")
    alias, rollback = (f"/hub/adapters/support/-/{part}" for part in ("aliases/x", "rollback"))
    for body in (
        r'{"to":"2","why":"\ud800"}',
        r'{"to":"\ud800"}',
        r'{"to":"2","why":"a\u0007"}',
        f'{{"to":"2","why":"{"x" * 1001}"}}',
        '{"to":"2","expect":true}',
        '{"to":"2","expect":1e3}',
    ):
        answer = http.put(alias, content=body, headers=JSON)
        assert (answer.status_code, "error" in answer.json()) == (400, True), body
    for body in (r'{"why":"\ud800"}', r'{"why":"a\nb"}', '{"to":true}'):
        assert http.post(rollback, content=body, headers=JSON).status_code == 400
    lineage = f'{{"files":[{{"path":"a","sha256":"{"0" * 64}","size":1}}],"lineage":%s}}'
    for value in (r'{"zz":"\ud800"}', '{"zz":NaN}', '{"zz":1e999}', f'{{"zz":{"9" * 30}}}'):
        answer = http.post("/hub/adapters/new/-/versions", content=lineage % value, headers=JSON)
        assert answer.status_code == 400, value
    # base64 of `true`
    answer = http.get("/hub/adapters/support/-/versions", params={"cursor": "dHJ1ZQ"})
    assert "not one of this list" in answer.json()["error"]["message"]


def test_head_is_get_without_the_body(http: httpx.Client, published: Publish) -> None:
    """The same status and headers, for records and for files."""
    published("support")
    for path in ("/hub/adapters", "/hub/adapters/support@1", _FILE, "/hub/adapters/none"):
        got, head = http.get(path), http.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        for name in ("etag", "content-length", "content-type"):
            assert head.headers.get(name) == got.headers.get(name), (path, name)


def test_methods_that_nothing_has_are_405(http: httpx.Client) -> None:
    """In OpenAI's shape, whatever they bring."""
    for method in ("OPTIONS", "TRACE", "PROPFIND"):
        answer = http.request(method, "/hub/adapters")
        assert answer.status_code == 405
        assert answer.json()["error"]["code"] == "method_not_allowed"


def test_a_range_that_makes_no_sense_is_as_if_it_were_not_there(
    http: httpx.Client, published: Publish
) -> None:
    """One that lies behind the end is 416 in OpenAI's shape, with the size."""
    published("support")
    whole = http.get(_FILE).content
    for asked in ("abc", "items=0-1", "bytes=9-3", "bytes=", "bytes=-", "bytes=0-1,x"):
        answer = http.get(_FILE, headers={"range": asked})
        assert (answer.status_code, answer.content) == (200, whole), asked
    part = http.get(_FILE, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole[2:6])
    tail = http.get(_FILE, headers={"range": "bytes=-4"})
    assert (tail.status_code, tail.content) == (206, whole[-4:])
    for asked in ("bytes=999999-", "bytes=-0"):
        beyond = http.get(_FILE, headers={"range": asked})
        assert beyond.status_code == 416
        assert beyond.headers["content-range"] == f"bytes */{len(whole)}"
        assert beyond.json()["error"]["code"] == "range_not_satisfiable"


@pytest.mark.usefixtures("base")
def test_a_registry_for_signed_versions_gives_out_no_others_files(
    home: Home, published: Publish, registry: Registry, tmp_path: Path
) -> None:
    """403 until the key has signed; records and the manifest stay open."""
    form = (Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    (tmp_path / "key").write_bytes(Ed25519PrivateKey.generate().private_bytes(*form))
    key = read_signing_key(tmp_path / "key", lambda: "")
    version = published("support")
    card = "/hub/adapters/support@1/-/card"
    told = RegistrySettings(signed_by=(key.public,))
    with serving(home, acts, told) as url, client(url) as http:
        for path in (_FILE, card):
            answer = http.get(path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_signed")
        manifest = http.get("/hub/adapters/support@1/-/manifest")
        assert manifest.status_code == 200
        registry.signatures.add(version, sign_manifest(manifest.text, key, signed_by="ann"))
        assert [http.get(path).status_code for path in (_FILE, card)] == [200, 200]
