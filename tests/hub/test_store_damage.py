"""Publishing on a damaged store or a full disk: mended or refused, never half a version."""

import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from hub.blobs import Put
from hub.disk import writing
from hub.errors import HubError, IntegrityError
from hub.home import Home
from hub.local import LocalHub
from hub.manifest import describe
from hub.records import Base
from hub.registry import Registry
from hub.relocate import choose_store, keep_blobs_in
from tests.conftest import acts, adapter_tensors, write_adapter
from tests.hub.test_store import SIGNED, prefix, s3_server
from tests.hub.test_verify import spoil

__all__ = ["prefix", "s3_server"]
CONFIG = "adapter_config.json"


@pytest.fixture
def hub(home: Home, registry: Registry, base: Base) -> LocalHub:
    return LocalHub(home, registry, acts)


def test_a_damaged_file_that_versions_share_is_mended_by_the_next(
    hub: LocalHub, tmp_path: Path
) -> None:
    """Same size, one bit flipped: the new version is whole, and it is told."""
    first = write_adapter(tmp_path / "a")
    assert hub.publish("support", first, lineage={}).mended == 0
    entry = describe(first / CONFIG, CONFIG)
    blob = hub.home.blobs / entry.sha256[:2] / entry.sha256
    spoil(blob)
    published = hub.publish(
        "support", write_adapter(tmp_path / "b", adapter_tensors(1)), lineage={}
    )
    assert (published.version, published.created, published.mended) == ("support@2", True, 1)
    assert blob.read_bytes() == (first / CONFIG).read_bytes()
    assert next(hub.verify("support@2")).ok
    # The first one's folder is a link to the damaged file: known bytes mend it, and say so.
    assert not next(hub.verify("support@1")).ok
    again = hub.publish("support", first, lineage={})
    assert (again.version, again.created, again.mended) == ("support@1", False, 1)
    assert next(hub.verify("support@1")).ok
    assert hub.publish("support", first, lineage={}).mended == 0


def test_a_damaged_object_in_a_bucket_is_mended_by_the_next(
    hub: LocalHub, s3_server: str, prefix: str, tmp_path: Path
) -> None:
    """What a bucket holds is read before it is relied on."""
    keep_blobs_in(hub.registry, choose_store(hub.home, f"s3://{prefix}"))
    first = write_adapter(tmp_path / "a")
    hub.publish("support", first, lineage={})
    entry = describe(first / CONFIG, CONFIG)
    url = f"{s3_server}/{prefix}/{entry.sha256[:2]}/{entry.sha256}"
    httpx.put(url, content=b"x" * entry.size, headers=SIGNED).raise_for_status()
    published = hub.publish(
        "support", write_adapter(tmp_path / "b", adapter_tensors(1)), lineage={}
    )
    assert published.mended == 1
    assert httpx.get(url, headers=SIGNED).content == (first / CONFIG).read_bytes()
    assert hub.store.blobs.put(first / CONFIG, entry) is Put.KEPT


def test_a_publish_whose_folder_has_no_place_leaves_no_row(hub: LocalHub, tmp_path: Path) -> None:
    """The place is looked at before the row is written."""
    hub.publish("support", write_adapter(tmp_path / "a"), lineage={})
    taken = hub.home.adapters / "support@2"
    more = write_adapter(tmp_path / "b", adapter_tensors(1))
    for make in (lambda: taken.write_text("x"), taken.mkdir):
        make()
        with pytest.raises(IntegrityError, match=r"support@2: a .* lies where the folder"):
            hub.publish("support", more, lineage={})
        assert [facts.version for facts in hub.versions("support")] == ["support@1"]
        taken.unlink() if taken.is_file() else taken.rmdir()
    assert hub.publish("support", more, lineage={}).version == "support@2"


_PUBLISH = """
import json, resource, sys
from pathlib import Path
from hub.errors import HubError
from hub.home import Home
from hub.local import LocalHub
from tests.conftest import acts
home, folder = sys.argv[1:]
hub = LocalHub.open(Home(Path(home)), acts)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
try:
    hub.publish("support", Path(folder), lineage={})
except HubError as error:
    print(json.dumps([type(error).__name__, error.message, error.where, error.hint]))
"""


def test_where_no_more_can_be_written_nothing_is_half_done(hub: LocalHub, tmp_path: Path) -> None:
    """A real process that may write no file of this size: plain words, no scratch file, no row."""
    folder = write_adapter(tmp_path / "a")
    weights = folder / "adapter_model.safetensors"
    raw = weights.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    # A long header is as good as large tensors.
    padded = raw[8 : 8 + length] + b" " * 500_000
    weights.write_bytes(len(padded).to_bytes(8, "little") + padded + raw[8 + length :])
    done = subprocess.run(
        [sys.executable, "-c", _PUBLISH, str(hub.home.root), str(folder)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    kind, message, where, hint = json.loads(done.stdout)
    assert (kind, message) == ("HubError", "the file is larger than may be written here")
    assert where.startswith(str(hub.home.scratch))
    assert "Make room" in hint
    assert list(hub.home.scratch.iterdir()) == []
    assert hub.registry.summaries() == []
    assert hub.publish("support", folder, lineage={}).version == "support@1"


def test_a_full_disk_is_told_apart_from_other_errors() -> None:
    """The device that is always full, and a file that is not there."""
    with pytest.raises(HubError, match="/dev/full: no space is left"), writing("/dev/full"):
        Path("/dev/full").write_text("x")
    with pytest.raises(FileNotFoundError), writing("x"):
        Path("/nowhere/at/all").write_text("x")
