"""Moving adapters from hub to hub over HTTP: a real gateway on a real socket."""

import asyncio
import json
import threading
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hub.cli.where import open_hub
from hub.errors import AdapterRejected
from hub.home import Home
from hub.local import LocalHub
from hub.records import Base
from hub.registry import Registry
from hub.transfer import pull, push
from serve.engines.spec import EngineSpec
from serve.run import make_engines
from serve.settings import Settings
from tests.conftest import acts, adapter_tensors, base_shapes, write_adapter
from tests.serve.conftest import running
from tests.serve.engine_double import EngineDouble

FILES = ("adapter_config.json", "adapter_model.safetensors")


async def test_a_round_trip_from_hub_to_hub(
    home: Home, base: Base, registry: Registry, tmp_path: Path
) -> None:
    """Pulled by address, and pulled into an address: the bytes, the digest and the lineage are
    those that were published; neither hub reads the other's disk."""
    trained, other = write_adapter(tmp_path / "trained"), Home(tmp_path / "other")
    other.root.mkdir()
    with Registry.create(other) as there:
        there.bases.add("/nowhere/tiny", base.identity, base_shapes())
    with LocalHub.open(home, acts) as here:
        here.publish("acme/support", trained, lineage={"kind": "trained", "seed": 3})
        published = here.show("acme/support")

    def travel(url: str) -> None:
        with LocalHub.open(other, acts) as there:
            pulled = pull(there, f"{url}/acme/support", open_hub=open_hub)
            assert pulled.published.version == "acme/support@1"
            shown = there.show("acme/support")
            assert shown.digest == published.digest
            assert shown.lineage["seed"] == 3
            assert shown.lineage["pulled"] == [
                {"from": f"{url}/acme/support@1", "version": "acme/support@1"}
            ]
            push(there, "acme/support", str(tmp_path / "out"))
            again = pull(there, f"{url}/acme/support@1", open_hub=open_hub)
            assert not again.published.created
            there.publish("acme/new", write_adapter(tmp_path / "n", adapter_tensors(5)), lineage={})
            push(there, "acme/new", str(tmp_path / "new.tar"))
        with open_hub(url) as far:
            sent = pull(far, str(tmp_path / "new.tar"), open_hub=open_hub).published
            assert (sent.version, sent.created) == ("acme/new@1", True)
            push(far, "acme/new", str(tmp_path / "back"))

    with EngineDouble() as engine:
        settings = Settings(
            base=base, engines_elsewhere=(EngineSpec(engine.url),), max_loras=2, max_cpu_loras=4
        )
        async with running(home, settings, make_engines(home, settings)) as gateway:
            await asyncio.to_thread(travel, gateway.url)
    for name in FILES:
        assert (tmp_path / "out" / name).read_bytes() == (trained / name).read_bytes()
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "n" / name).read_bytes()
    notes = [json.loads((tmp_path / at / "loom.json").read_text()) for at in ("out", "back")]
    assert [note["digest"] for note in notes] == [published.digest, registry.versions.get(
        "acme/new", 1).digest]  # fmt: skip


@pytest.mark.parametrize("path", ["../../evil", "/tmp/evil", "a/b"])
def test_a_hub_that_names_files_outside(
    home: Home, base: Base, registry: Registry, tmp_path: Path, path: str
) -> None:
    """What another hub lists is not believed: nothing is written under such a name."""
    with LocalHub.open(home, acts) as here:
        here.publish("support", write_adapter(tmp_path / "a"), lineage={})
        facts = asdict(here.show("support"))
        facts["files"][0]["path"] = path

        class Hostile(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(facts).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Silence."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/support@1"
            with pytest.raises(AdapterRejected) as refused:
                pull(here, address, name="pulled", open_hub=open_hub)
        finally:
            server.shutdown()
            server.server_close()
    assert repr(path) in str(refused.value)
    assert refused.value.check == "files"
    assert not Path("/tmp/evil").exists()
