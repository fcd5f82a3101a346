"""Text and numbers from strangers: reasons, addresses, and the JSON that comes with an adapter."""

import json
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from hub.address import Address
from hub.errors import HubUnreachable, InvalidData, UsageError
from hub.local import LocalHub
from hub.manifest import Manifest
from hub.parcel import read_parcel
from hub.strictjson import read_json
from hub.transfer import push
from hub.who import parse_reason
from tests.hub.moving import here, hub_of_models, make_hub

__all__ = ["here", "hub_of_models", "make_hub"]


@pytest.mark.parametrize("why", ["\udcff", "a\nb", "\x1b[2J", "\u2028", "x" * 1001])
def test_a_reason_is_one_line_of_text(why: str) -> None:
    """It is shown in terminals for ever: no control characters, no broken text, no novels."""
    with pytest.raises(UsageError, match="reason"):
        parse_reason(why)
    assert parse_reason("für 3 % weniger Fehler 👩‍💻") == "für 3 % weniger Fehler 👩‍💻"


@pytest.mark.parametrize(
    "url",
    ["http://[::1", "http://x\x01y", "http://a..b", f"http://{'a' * 300}", "http://x:99999", "x"],
)
def test_what_is_no_address_is_said_to_be_none(url: str) -> None:
    """Before anything is asked, and in words that a terminal can show."""
    with pytest.raises(UsageError, match="is no hub's address") as refused:
        Address(url, who="ann")
    assert refused.value.message.isprintable()


@pytest.mark.parametrize(
    "text",
    ["1e999", "[NaN]", '{"a": "\\ud800"}', '{"\\udfff": 1}', "9" * 30, "[" * 99 + "]" * 99],
)
def test_json_that_could_not_be_written_again_is_not_read(text: str) -> None:
    """Infinities, NaN, half characters, endless integers and depth."""
    with pytest.raises(ValueError, match=r"finite|Unicode|64 bits|deep"):
        read_json(text)
    assert read_json('{"a": [1, 0.5, "\\ud83d\\ude00", null, true]}')["a"][2] == "😀"


@pytest.mark.parametrize("target", ["", " ", "o.zip", "o.tar.xz", "o.json.gz"])
def test_push_makes_no_folder_that_is_called_like_an_archive(
    here: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """Nor one without a name; nothing is written."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with pytest.raises(UsageError, match=r"empty|archive"):
        push(here, "support@1", target)
    assert list(work.iterdir()) == []


@pytest.mark.parametrize(
    "part",
    ['"number": 1e999', '"number": true', '"lineage": {"zz": "\\ud800"}', '"lineage": {"z": NaN}'],
)
def test_a_crafted_loom_json_is_refused(tmp_path: Path, part: str) -> None:
    """As invalid data, by name, and not later by what can't keep it."""
    base = {"name": "b", "revision": "", "config_sha256": "", "tokenizer_sha256": ""}
    manifest = {"schema": 1, "base": {**base, "template_sha256": ""}, "files": []}
    digest = Manifest.from_json(json.dumps(manifest)).digest()
    note = {"schema": 1, "name": "support", "number": 1, "digest": digest, "manifest": manifest}
    text = json.dumps({**note, "lineage": {}, "signatures": []})
    (tmp_path / "loom.json").write_text(text)
    assert read_parcel(tmp_path) is not None
    # The last of two equal keys counts.
    (tmp_path / "loom.json").write_text(f"{text[:-1]}, {part}}}")
    with pytest.raises(InvalidData, match=r"loom\.json"):
        read_parcel(tmp_path)


@pytest.mark.parametrize("said", [b"\xff\xfe\x80", b"[" * 100_000])
def test_what_is_no_json_comes_from_no_hub(said: bytes) -> None:
    """Whatever answers there: bytes that are no text, and lists in lists without end."""

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

    server = HTTPServer(("127.0.0.1", 0), Stranger)
    threading.Thread(target=server.handle_request, daemon=True).start()
    with (
        closing(server.socket),
        closing(Address(f"http://127.0.0.1:{server.server_port}", who="ann")) as address,
        pytest.raises(HubUnreachable, match="is no hub"),
    ):
        address.ask("GET", "adapters")
