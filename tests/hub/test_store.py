"""The store: blobs in a folder, elsewhere and in a bucket, and the lock against gc."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from hub.blobs import Blobs, parse_store_url
from hub.errors import (
    Conflict,
    HubError,
    IntegrityError,
    MissingExtra,
    StoreUnavailable,
    UsageError,
)
from hub.home import Home
from hub.manifest import describe
from hub.publish import publish, servable_folder
from hub.records import Base, Version
from hub.registry import Registry
from hub.relocate import choose_store, keep_blobs_in
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts, adapter_tensors, write_adapter

WEIGHTS = "adapter_model.safetensors"
BUCKET = "adapters"
# The server checks that somebody signed, not what: enough for looking at it from outside.
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request,"
          " SignedHeaders=host, Signature=none"}  # fmt: skip


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    httpx.put(f"{url}/{BUCKET}").raise_for_status()
    yield url
    server.stop()


@pytest.fixture
def prefix(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An empty prefix of a bucket on a real S3 server, reached through the environment as users
    do: `BUCKET/NAME`."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return f"{BUCKET}/{tmp_path.name}"


def published(registry: Registry, base: Base, folder: Path, seed: int = 0) -> Version:
    source = write_adapter(folder, adapter_tensors(seed))
    version, _ = publish(
        registry, Store.of(registry), "support", source, base, measure_effect=acts, lineage={}
    )
    return version


def replica(home: Home, elsewhere: Path) -> Home:
    """Another machine: a copy of registry.db, and no disk in common."""
    elsewhere.mkdir()
    with sqlite3.connect(home.registry) as db:
        db.execute("VACUUM INTO ?", [str(elsewhere / "registry.db")])
    return Home(elsewhere)


def keys(server: str, prefix: str) -> set[str]:
    """What the bucket holds, asked without any of our parts."""
    listing = httpx.get(f"{server}/{BUCKET}", params={"list-type": "2"}).text
    found = {f"{BUCKET}/{key}" for key in re.findall("<Key>(.+?)</Key>", listing)}
    return {key for key in found if key.startswith(f"{prefix}/")}


def test_local_folders_are_hard_links_to_blobs(
    registry: Registry, base: Base, home: Home, tmp_path: Path
) -> None:
    """A materialised version costs no second copy on the disk."""
    version = published(registry, base, tmp_path / "a")
    store = Store.of(registry)
    for entry in version.manifest.files:
        blob = home.blobs / entry.sha256[:2] / entry.sha256
        assert blob.samefile(store.folder(version) / entry.path)
    assert [blob.sha256 for blob in store.blobs.all()] == sorted(
        entry.sha256 for entry in version.manifest.files
    )
    assert not list(home.scratch.iterdir())


def test_a_folder_on_another_place_holds_the_blobs(
    home: Home, base: Base, registry: Registry, tmp_path: Path
) -> None:
    """`--store FOLDER` moves what is stored there, and the home's own folder is read no more."""
    first = published(registry, base, tmp_path / "a")
    place = tmp_path / "share" / "blobs"
    assert keep_blobs_in(registry, choose_store(home, str(place))) == 2
    second = published(registry, base, tmp_path / "b", seed=1)
    shutil.rmtree(home.blobs)
    for path in (home.root / ".hub/adapters").iterdir():
        path.chmod(0o755)
        shutil.rmtree(path)
    for version in (first, second):
        assert servable_folder(Store.of(registry), version).is_dir()
    assert {blob.name for blob in place.glob("??/*")} == {
        entry.sha256 for version in (first, second) for entry in version.manifest.files
    }


def test_versions_live_in_a_bucket(
    registry: Registry, base: Base, home: Home, prefix: str, s3_server: str, tmp_path: Path
) -> None:
    """What is published on one machine is materialised on another that shares only the bucket and
    a copy of the registry; none of it lies in the first one's home."""
    keep_blobs_in(registry, choose_store(home, f"s3://{prefix}/"))
    version = published(registry, base, tmp_path / "a")
    blobs = {f"{prefix}/{entry.sha256[:2]}/{entry.sha256}" for entry in version.manifest.files}
    assert keys(s3_server, prefix) == {f"{prefix}/loom-hub", *blobs}
    assert not [path for path in home.blobs.rglob("*") if path.is_file()]
    assert not list(home.scratch.iterdir())
    with Registry.open(replica(home, tmp_path / "elsewhere")) as other:
        folder = servable_folder(Store.of(other), version)
        assert folder.is_relative_to(tmp_path / "elsewhere")
        for name in ("adapter_config.json", WEIGHTS):
            assert (folder / name).read_bytes() == (tmp_path / "a" / name).read_bytes()
            assert (folder / name).stat().st_mode & 0o222 == 0


def test_a_flipped_byte_in_the_bucket_is_caught(
    registry: Registry, base: Base, home: Home, prefix: str, s3_server: str, tmp_path: Path
) -> None:
    """It is named by its URL, leaves no folder, and is mended by publishing the files again."""
    keep_blobs_in(registry, choose_store(home, f"s3://{prefix}"))
    version = published(registry, base, tmp_path / "a")
    weights = next(entry for entry in version.manifest.files if entry.path == WEIGHTS)
    key = f"{prefix}/{weights.sha256[:2]}/{weights.sha256}"
    spoiled = bytearray(httpx.get(f"{s3_server}/{key}", headers=SIGNED).content)
    spoiled[-1] ^= 1
    httpx.put(f"{s3_server}/{key}", content=bytes(spoiled), headers=SIGNED).raise_for_status()
    with Registry.open(replica(home, tmp_path / "elsewhere")) as other:
        store = Store.of(other)
        with pytest.raises(IntegrityError, match=f"s3://{key}.*damaged"):
            servable_folder(store, version)
        assert not store.folder(version).exists()
        assert not list((tmp_path / "elsewhere/.hub/scratch").iterdir())
        httpx.delete(f"{s3_server}/{key}", headers=SIGNED).raise_for_status()
        with pytest.raises(IntegrityError, match=f"s3://{key}.*missing"):
            servable_folder(store, version)
        httpx.put(f"{s3_server}/{key}", content=bytes(spoiled), headers=SIGNED).raise_for_status()
        again = publish(
            other, store, "support", tmp_path / "a", base, measure_effect=acts, lineage={}
        )
        assert again == (version, False)
        assert (
            httpx.get(f"{s3_server}/{key}", headers=SIGNED).content
            == (tmp_path / "a" / WEIGHTS).read_bytes()
        )
        assert servable_folder(store, version).is_dir()


def test_blobs_are_listed_read_and_deleted_alike(home: Home, prefix: str, tmp_path: Path) -> None:
    """gc, doctor and backup see the same thing in a folder and in a bucket."""
    paths = []
    for number in range(3):
        paths.append(tmp_path / str(number))
        paths[-1].write_bytes(bytes([number]) * (number + 1))
    entries = {(entry := describe(path, path.name)).sha256: (path, entry) for path in paths}
    for url in (str(tmp_path / "folder"), f"s3://{prefix}"):
        blobs = Blobs(url, tmp_path / "scratch")
        assert list(blobs.all()) == []
        for path, entry in entries.values():
            blobs.put(path, entry)
            blobs.put(path, entry)
        assert [(blob.sha256, blob.size) for blob in blobs.all()] == sorted(
            (entry.sha256, entry.size) for _, entry in entries.values()
        )
        assert all(blob.modified.utcoffset().total_seconds() == 0 for blob in blobs.all())
        for sha256, (path, entry) in entries.items():
            with blobs.open(sha256) as stream:
                assert stream.read() == path.read_bytes()
            assert (blobs.size(sha256), blobs.exists(sha256)) == (entry.size, True)
            blobs.delete(sha256)
            blobs.delete(sha256)
            assert not blobs.exists(sha256)
            with pytest.raises(IntegrityError, match="missing"):
                blobs.open(sha256)
        assert list(blobs.all()) == []


def test_a_file_that_changes_while_it_is_stored_is_refused(tmp_path: Path) -> None:
    """No blob ever has a name that is not its content's."""
    path = tmp_path / "file"
    path.write_text("one")
    entry = describe(path, "file")
    path.write_text("two")
    blobs = Blobs(str(tmp_path / "blobs"), tmp_path / "scratch")
    with pytest.raises(IntegrityError, match="changed while it was read"):
        blobs.put(path, entry)
    assert list(blobs.all()) == []
    assert list((tmp_path / "scratch").iterdir()) == []


def test_two_hubs_do_not_share_a_store(
    registry: Registry, home: Home, prefix: str, tmp_path: Path
) -> None:
    """One's gc would take the other's blobs, so the second is told to choose another prefix, before
    anything of it is made; moving back to one's own place is no conflict."""
    url = f"s3://{prefix}"
    keep_blobs_in(registry, choose_store(home, url))
    with pytest.raises(Conflict, match=f"{url}.*another hub"):
        choose_store(Home(tmp_path / "other"), url)
    assert not (tmp_path / "other").exists()
    keep_blobs_in(registry, choose_store(home, str(home.blobs)))
    assert registry.store_url == ""
    keep_blobs_in(registry, choose_store(home, url))
    assert registry.store_url == url


def test_a_hub_in_a_bucket_from_the_command_line(prefix: str, tmp_path: Path) -> None:
    """`hub init --store` says where blobs are; a bucket that is not there leaves no hub behind."""
    hub = Hub(tmp_path / "home")
    hub.home.mkdir()
    result = hub("init", "--store", "s3://there-is-no-such-bucket/x")
    assert (result.status, result.stdout) == (1, "")
    assert "s3://there-is-no-such-bucket/x: the store is not there" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(hub.home.iterdir()) == []
    made = hub.ok("init", "--store", f"s3://{prefix}/", "--json").json()
    assert (made["created"], made["store"]) == (True, f"s3://{prefix}")


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "s3://{prefix}", "credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}"}, "s3://{prefix}", "connect"),
        ({}, "https://example.com/x", "s3://BUCKET/PREFIX"),
        ({}, "memory://x", "s3://BUCKET/PREFIX"),
    ],
    ids=["no credentials", "no server", "a page", "memory"],
)
def test_a_store_that_can_t_be_used(
    change: dict[str, str], place: str, words: str, prefix: str, home: Home,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Each is one sentence that names the place and what to check."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for name, value in change.items():
        if value:
            monkeypatch.setenv(name, value.format(port=port))
        else:
            monkeypatch.delenv(name)
    place = place.format(prefix=prefix)
    with pytest.raises(HubError) as refused:
        choose_store(home, place)
    assert place in str(refused.value)
    assert words in f"{refused.value} {refused.value.hint}"
    assert not home.root.exists()


def test_a_folder_that_can_t_be_written(registry: Registry, home: Home) -> None:
    """The place is named, and the hub keeps its blobs where they were."""
    with pytest.raises(StoreUnavailable, match="/proc/nowhere"):
        keep_blobs_in(registry, choose_store(home, "/proc/nowhere"))
    assert registry.store_url == ""


def test_a_server_that_is_gone(
    registry: Registry, base: Base, home: Home, prefix: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Publishing then is refused in plain words and leaves nothing; what is materialised serves."""
    keep_blobs_in(registry, choose_store(home, f"s3://{prefix}"))
    version = published(registry, base, tmp_path / "a")
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    with pytest.raises(StoreUnavailable, match="can't be used"):
        published(registry, base, tmp_path / "b", seed=1)
    assert [found.number for found in registry.versions.of("support")] == [1]
    assert not list(home.scratch.iterdir())
    assert servable_folder(Store.of(registry), version).is_dir()


def test_a_missing_library_says_what_to_install(tmp_path: Path) -> None:
    """A bucket needs an extra, and the message names it."""
    blobs = Blobs("gs://somewhere/x", tmp_path)
    try:
        import gcsfs  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra) as missing:
            blobs.owner()
        assert "lora-loom[gcs]" in str(missing.value.hint)


@pytest.mark.parametrize("text", ["s3://", "s3:///x", "ftp://a/b", "zip://a::s3://b", "s3://b?x=1"])
def test_only_places_that_can_hold_blobs(text: str) -> None:
    """Everything else is a usage error before anything is made."""
    with pytest.raises(UsageError):
        parse_store_url(text)


HOLDER = """
import sys
from pathlib import Path
from hub.home import Home
from hub.store import Store
with getattr(Store(Home(Path(sys.argv[1]))), sys.argv[2])():
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(home: Home, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(home.root), kind],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        env={**os.environ},
    )  # fmt: skip


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_gc_and_publishing_exclude_each_other(home: Home) -> None:
    """Many may add at once; one that sweeps is alone; a process that is killed lets go."""
    home.data.mkdir(parents=True)
    first, second = hold(home, "adding"), hold(home, "adding")
    assert (said(first), said(second)) == ("held", "held")
    sweeper = hold(home, "sweeping")
    first.kill()
    first.wait()
    assert sweeper.poll() is None
    second.kill()
    second.wait()
    assert said(sweeper) == "held"
    late = hold(home, "adding")
    sweeper.kill()
    sweeper.wait()
    assert said(late) == "held"
    late.communicate()


def test_the_manifest_cannot_lead_out_of_the_folder(
    registry: Registry, base: Base, home: Home, tmp_path: Path
) -> None:
    """Whatever a registry from elsewhere says, nothing is written outside scratch."""
    from dataclasses import replace

    from hub.errors import AdapterRejected
    from hub.manifest import Manifest

    version = published(registry, base, tmp_path / "a")
    store = Store.of(registry)
    for path, words in [("../../evil", "'..'"), ("/tmp/evil", "absolute"), ("a/b", "plain")]:
        files = tuple(replace(entry, path=path) for entry in version.manifest.files[:1])
        evil = replace(version, number=9, manifest=Manifest(version.manifest.base, files))
        with pytest.raises(AdapterRejected, match=words):
            store.materialise(evil, "card")
    assert json.dumps([p.name for p in home.scratch.iterdir()]) == "[]"
