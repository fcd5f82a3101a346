"""What lazy engines read: offered whole, once, under the engine name, and never changed after."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer

from hub.errors import (
    IntegrityError,
    InvalidName,
    StoreUnavailable,
    UsageError,
)
from serve.placement.lazy_folder import LazyFolder
from tests.conftest import adapter_config, adapter_tensors, write_adapter
from tests.serve.processes import soon

NAME = "support@3#0123456789ab"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
BASE = "/models/tiny"
BUCKET = "engines"
# The server checks that somebody signed, not what: enough for looking at it from outside.
SIGNED = {"authorization": "AWS4-HMAC-SHA256 Credential=someone/20260101/us-east-1/s3/aws4_request,"
          " SignedHeaders=host, Signature=none"}  # fmt: skip


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """A version's folder as the store makes it: read-only, with its card."""
    folder = write_adapter(tmp_path / "version", config=adapter_config(base="kept"))
    (folder / "README.md").write_text("# support@3\n")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_an_offer_is_the_version_with_the_engines_own_base(version: Path, root: Path) -> None:
    """The config differs in `base_model_name_or_path` and in nothing else; the weights are the same
    file where the file system allows it, and everything is read-only."""
    LazyFolder(root, BASE).offer(NAME, version)
    offered = root / NAME
    before, after = (json.loads((f / CONFIG).read_bytes()) for f in (version, offered))
    assert after.pop("base_model_name_or_path") == BASE
    assert before.pop("base_model_name_or_path") == "tiny"
    assert after == before
    assert (offered / WEIGHTS).samefile(version / WEIGHTS)
    assert (offered / "README.md").read_text() == "# support@3\n"
    assert [path.stat().st_mode & 0o777 for path in sorted(offered.iterdir())] == [0o444] * 3
    assert offered.stat().st_mode & 0o777 == 0o555
    # What the hub keeps was not touched.
    assert json.loads((version / CONFIG).read_bytes())["base_model_name_or_path"] == "tiny"


def test_without_hard_links_it_is_a_copy(
    version: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file system, such as a shared one, gets the bytes."""

    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    LazyFolder(root, BASE).offer(NAME, version)
    copy = root / NAME / WEIGHTS
    assert not copy.samefile(version / WEIGHTS)
    assert copy.read_bytes() == (version / WEIGHTS).read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o444


def test_a_namespace_is_a_folder_of_its_own(version: Path, root: Path) -> None:
    """The resolver joins its folder and the model's name."""
    LazyFolder(root, BASE).offer(f"acme/{NAME}", version)
    assert (root / "acme" / NAME / WEIGHTS).is_file()


@pytest.mark.parametrize(
    "name",
    [
        "../support@3#0123456789ab",
        "acme/../support@3#0123456789ab",
        "/etc@3#0123456789ab",
        "a/b/c@3#0123456789ab",
        ".scratch@3#0123456789ab",
        "Support@3#0123456789ab",
        "support@3",
        "support@0#0123456789ab",
        "support@3#0123456789AB",
        "support@3#0123456789ab/..",
        "support@3#0123456789ab\n",
        "base@3#0123456789ab",
        "",
    ],
)
def test_only_engine_names_become_folders(name: str, version: Path, root: Path) -> None:
    """Nothing that leads elsewhere, and nothing that the hub would not have made."""
    with pytest.raises(InvalidName):
        LazyFolder(root, BASE).offer(name, version)
    assert list(root.iterdir()) == []


def test_offering_again_changes_nothing(version: Path, root: Path) -> None:
    """Not in the same gateway, and not in its next life."""
    first = LazyFolder(root, BASE)
    first.offer(NAME, version)
    before = {path: path.stat() for path in (root / NAME).iterdir()}
    first.offer(NAME, version)
    LazyFolder(root, BASE).offer(NAME, version)
    assert {path: path.stat() for path in (root / NAME).iterdir()} == before


def test_a_gateway_s_next_life_offers_what_was_removed(version: Path, root: Path) -> None:
    """So the folder may be emptied while no gateway runs."""
    LazyFolder(root, BASE).offer(NAME, version)
    shutil.rmtree(root / NAME)
    LazyFolder(root, BASE).offer(NAME, version)
    assert (root / NAME / WEIGHTS).is_file()


@pytest.mark.parametrize("damage", ["weights", "config", "missing", "added", "file"])
def test_what_is_not_the_version_is_refused_and_left(
    damage: str, version: Path, root: Path, tmp_path: Path
) -> None:
    """An engine may be reading it, so it is never replaced; the message says what to do."""
    other = write_adapter(tmp_path / "other", adapter_tensors(seed=1))
    place = root / NAME
    if damage == "file":
        place.write_text("")
    else:
        shutil.copytree(other if damage == "weights" else version, place)
        place.chmod(0o755)
    if damage != "config" and damage != "file":
        (place / CONFIG).unlink()
        config = json.loads((version / CONFIG).read_bytes()) | {"base_model_name_or_path": BASE}
        text = json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (place / CONFIG).write_text(text)
    if damage == "missing":
        (place / WEIGHTS).unlink()
    if damage == "added":
        (place / "more.safetensors").write_bytes(b"")
    before = sorted(place.iterdir()) if place.is_dir() else []
    with pytest.raises(IntegrityError) as caught:
        LazyFolder(root, BASE).offer(NAME, version)
    assert NAME in str(caught.value.where)
    assert "Stop every gateway" in str(caught.value.hint)
    assert (sorted(place.iterdir()) if place.is_dir() else []) == before


def test_two_bases_cannot_share_a_folder(version: Path, root: Path) -> None:
    """The resolver would not find the adapter for one of them; better said than served wrong."""
    LazyFolder(root, BASE).offer(NAME, version)
    with pytest.raises(IntegrityError, match="for the base /models/tiny, not /models/other"):
        LazyFolder(root, "/models/other").offer(NAME, version)


def test_simultaneous_offers_are_one(version: Path, root: Path) -> None:
    """From threads of one gateway and from several gateways; whoever looks sees it whole."""
    gateways = [LazyFolder(root, BASE) for _ in range(4)]
    seen: list[set[str]] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            if (root / NAME).exists():
                seen.append({path.name for path in (root / NAME).iterdir()})

    watcher = threading.Thread(target=look)
    watcher.start()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda i: gateways[i % 4].offer(NAME, version), range(64)))
    soon(lambda: seen)
    done.set()
    watcher.join()
    assert all(names == {CONFIG, WEIGHTS, "README.md"} for names in seen)
    assert list((root / ".scratch").iterdir()) == []


def test_a_killed_gateway_leaves_nothing_half_offered(version: Path, root: Path) -> None:
    """SIGKILL at any moment: what an engine could see is whole, and the next offer goes through."""
    endless = (
        "import itertools, sys\n"
        "from pathlib import Path\n"
        "from serve.placement.lazy_folder import LazyFolder\n"
        "for i in itertools.count():\n"
        f"    LazyFolder(Path(sys.argv[1]), {BASE!r}).offer(\n"
        "        f'support@1#{i:012x}', Path(sys.argv[2]))\n"
    )
    child = subprocess.Popen([sys.executable, "-c", endless, str(root), str(version)])
    soon(lambda: len(list(root.glob("support@1#*"))) > 20)
    child.send_signal(signal.SIGKILL)
    child.wait()
    offered = list(root.glob("support@1#*"))
    for folder in offered:
        assert {path.name for path in folder.iterdir()} == {CONFIG, WEIGHTS, "README.md"}
        json.loads((folder / CONFIG).read_bytes())
    LazyFolder(root, BASE).offer(f"support@1#{len(offered):012x}", version)


def test_leftovers_of_killed_gateways_are_tidied_away(version: Path, root: Path) -> None:
    """After an hour; before that somebody may still be writing."""
    old, young = root / ".scratch" / "old", root / ".scratch" / "young"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (time.time() - 7200,) * 2)
    LazyFolder(root, BASE).offer(NAME, version)
    assert not old.exists()
    assert young.exists()


def test_a_place_that_is_not_there_is_said(version: Path, tmp_path: Path) -> None:
    """In one sentence, with what to check."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="nothing can be offered") as caught:
        LazyFolder(tmp_path / "file" / "below", BASE).offer(NAME, version)
    assert "Check that the folder is there" in str(caught.value.hint)
    with pytest.raises(UsageError):
        LazyFolder("ftp://somewhere/else", BASE)


# -- in a bucket ----------------------------------------------------------------------------------


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """The address of a real S3 server with one bucket, reached through the environment."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.put(f"http://{host}:{port}/{BUCKET}").raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


def asked(bucket: str, method: str, key: str, content: bytes | None = None) -> bytes:
    """An object, without any of our parts."""
    url = f"{bucket}/{BUCKET}/{key.replace('#', '%23')}"
    answer = httpx.request(method, url, content=content, headers=SIGNED)
    return answer.raise_for_status().content


def test_a_bucket_gets_the_config_last(
    version: Path, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without it no engine takes what is there for an adapter; a second offer sends nothing, and
    one that broke off is finished."""
    url, key = f"s3://{BUCKET}/adapters", f"adapters/acme/{NAME}"
    caplog.set_level("INFO", "werkzeug")
    LazyFolder(url, BASE).offer(f"acme/{NAME}", version)
    sent = [line for line in caplog.messages if '"PUT' in line]
    assert [name for line in sent for name in (WEIGHTS, CONFIG) if name in line] == [
        WEIGHTS,
        CONFIG,
    ]
    assert asked(bucket, "GET", f"{key}/{WEIGHTS}") == (version / WEIGHTS).read_bytes()
    config = json.loads(asked(bucket, "GET", f"{key}/{CONFIG}"))
    assert config["base_model_name_or_path"] == BASE
    caplog.clear()
    LazyFolder(url, BASE).offer(f"acme/{NAME}", version)
    assert [line for line in caplog.messages if '"PUT' in line] == []
    asked(bucket, "DELETE", f"{key}/{CONFIG}")
    asked(bucket, "PUT", f"{key}/{WEIGHTS}", b"half")
    LazyFolder(url, BASE).offer(f"acme/{NAME}", version)
    assert asked(bucket, "GET", f"{key}/{WEIGHTS}") == (version / WEIGHTS).read_bytes()


def test_a_damaged_object_is_refused(version: Path, bucket: str) -> None:
    """Its size is no proof: the bytes are read."""
    url = f"s3://{BUCKET}/adapters"
    LazyFolder(url, BASE).offer(NAME, version)
    good = (version / WEIGHTS).read_bytes()
    bad = good[:-1] + bytes([good[-1] ^ 1])
    asked(bucket, "PUT", f"adapters/{NAME}/{WEIGHTS}", bad)
    with pytest.raises(IntegrityError, match=WEIGHTS):
        LazyFolder(url, BASE).offer(NAME, version)


def test_a_bucket_that_is_not_there_is_said(version: Path, bucket: str) -> None:
    """In one sentence, and no traceback of a library."""
    with pytest.raises(StoreUnavailable, match="nothing can be offered"):
        LazyFolder("s3://no-such-bucket/x", BASE).offer(NAME, version)
