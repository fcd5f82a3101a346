"""`hub backup` and `hub restore`: everything comes back, or nothing changes."""

import hashlib
import io
import json
import os
import random
import signal
import sqlite3
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.backup import write_backup
from hub.errors import Conflict, HubError, IntegrityError, UsageError
from hub.feedback.interactions import Interaction, InteractionLog
from hub.home import Home
from hub.leases import Leases
from hub.manifest import sha256_of_file
from hub.publish import servable_folder
from hub.registry import Registry
from hub.restore import restore
from tests.command import Hub
from tests.hub.making import Maker, broken, maker, open_hub, tree

Members = dict[str, bytes]


@pytest.fixture
def make(registry: Registry, home: Home, tmp_path: Path) -> Maker:
    """Two adapters, a promotion, a lineage, a removed version and a logged request."""
    make = maker(registry, tmp_path / "made")
    make(), make(parent=make(), seed=7), make("acme/other")
    with open_hub(home) as hub:
        hub.promote("support@2", "production", expect=None, force=True, why="better")
        hub.remove("support@3", whole_adapter=False, why="")
    log(home, "int_1")
    return make


def log(home: Home, name: str) -> None:
    with InteractionLog.open(home) as interactions:
        interactions.record(
            [Interaction(name, "2026-11-22T10:00:00.000Z", "chat", "support", "support@1", "d",
                         "{}", "Hello", "{}", "complete", 1.0)]
        )  # fmt: skip


def logged(home: Home) -> list[str]:
    with InteractionLog.open(home) as interactions:
        return [entry.id for entry in interactions.newest(10)]


def back_up(home: Home, file: Path, *, interactions: bool = True) -> Path:
    with open_hub(home) as hub:
        write_backup(hub.registry, hub.store, file, interactions=interactions)
    return file


def said(home: Home) -> dict[str, object]:
    """All that a hub says of itself, but where it lies."""
    with open_hub(home) as hub:
        names = [summary.name for summary in hub.adapters()]
        return {
            "adapters": list(hub.adapters()),
            "versions": [
                (v.version, v.digest, v.files, v.lineage, v.published_at, v.aliases)
                for name in names
                for v in hub.versions(name)
            ],
            "history": {name: list(hub.history(name)) for name in names},
            "bases": [(base.name, base.digest) for base in hub.registry.bases.all()],
            "interactions": logged(home),
        }


# -- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz"])
def test_everything_comes_back(home: Home, make: Maker, tmp_path: Path, name: str) -> None:
    """Into an empty folder elsewhere: versions, files, aliases, history, base and log."""
    file = back_up(home, tmp_path / name)
    there = Home(tmp_path / "there")
    restored = restore(there, file, force=False)
    assert restored.counts == {"version": 3, "stored file": 4, "base": 1, "interaction": 1}
    assert said(there) == said(home)
    with open_hub(there) as hub:
        for version in hub.registry.versions.all():
            servable_folder(hub.store, version)
        assert hub.registry.bases.get().source == str(there.bases / "tiny")
        assert broken(hub) == []
    assert tree(there.bases) == tree(home.bases)
    assert [path.name for path in there.scratch.iterdir()] == []


def test_a_backup_holds_what_its_registry_names_and_no_more(
    home: Home, make: Maker, tmp_path: Path
) -> None:
    """No blob of a removed version, no run, no engine log; an index with the hash of each."""
    (home.logs / "engine.log").write_text("noise")
    file = back_up(home, tmp_path / "all.tar", interactions=False)
    with open_hub(home) as hub:
        blobs = {f.sha256 for v in hub.registry.versions.all() for f in v.manifest.files}
    found = read(file)
    index = json.loads(found.pop("backup.json"))
    expected = {"registry.db", "bases/tiny/config.json", *(f"blobs/{sha}" for sha in blobs)}
    assert set(found) == expected
    assert {entry["path"] for entry in index["files"]} == expected
    assert not list(tmp_path.glob("*.part*"))


def test_a_backup_of_a_hub_in_use(home: Home, make: Maker, tmp_path: Path) -> None:
    """While others publish, promote and sweep, every backup is one moment, whole."""
    stop = threading.Event()

    def work() -> None:
        with open_hub(home) as hub:
            busy = Maker(hub.registry, hub.store, make.base, tmp_path / "busy", make.seeds)
            while not stop.is_set():
                version = str(busy())
                hub.promote(version, "production", expect=None, force=True, why="next")
                hub.gc(keep_days=0, dry_run=False)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        files = [back_up(home, tmp_path / f"{number}.tar") for number in range(5)]
    finally:
        stop.set()
        worker.join()
    for number, file in enumerate(files):
        there = Home(tmp_path / f"there-{number}")
        restore(there, file, force=False)
        with open_hub(there) as hub:
            assert broken(hub) == []


def test_a_damaged_file_is_not_backed_up(home: Home, make: Maker, tmp_path: Path) -> None:
    """A backup with a flipped byte would be found out when it is too late."""
    entry = make.registry.versions.get("support", 1).manifest.files[1]
    blob = Path(make.store.blobs.where(entry.sha256))
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)
    with pytest.raises(IntegrityError, match="damaged") as error:
        back_up(home, tmp_path / "all.tar")
    assert str(error.value.where) == str(blob)
    blob.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        back_up(home, tmp_path / "all.tar")
    assert not list(tmp_path.glob("all.tar*"))


def test_where_a_backup_cannot_be_written(home: Home, make: Maker, tmp_path: Path) -> None:
    """Nothing is overwritten, and the name says what it will be."""
    file = back_up(home, tmp_path / "all.tar")
    before = file.read_bytes()
    with pytest.raises(Conflict):
        back_up(home, file)
    with pytest.raises(UsageError):
        back_up(home, tmp_path / "all.zip")
    with pytest.raises(HubError, match="can't be written"):
        back_up(home, tmp_path / "nowhere" / "all.tar")
    assert file.read_bytes() == before


# -- what is no whole backup ----------------------------------------------------------------------


def read(file: Path) -> Members:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def write(file: Path, members: Members) -> None:
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _flip(below: str) -> Callable[[Members], None]:
    def spoil(members: Members) -> None:
        name = next(name for name in members if name.startswith(below))
        data = bytearray(members[name])
        data[len(data) // 2] ^= 1
        members[name] = bytes(data)

    return spoil


def _drop(below: str) -> Callable[[Members], None]:
    return lambda members: members.pop(next(n for n in members if n.startswith(below))) and None


def _smuggle(path: str) -> Callable[[Members], None]:
    def spoil(members: Members) -> None:
        index = json.loads(members["backup.json"])
        victim = next(e for e in index["files"] if e["path"].startswith("bases/"))
        members[path] = members.pop(victim["path"])
        victim["path"] = path
        members["backup.json"] = json.dumps(index).encode()

    return spoil


def _no_index(members: Members) -> None:
    members["readme"] = members.pop("backup.json")


def _extra(members: Members) -> None:
    members["blobs/extra"] = b"x"


def _with_registry(members: Members, statements: list[str]) -> Members:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.deserialize(members["registry.db"])
    for statement in statements:
        connection.execute(statement)
    data = connection.serialize()
    index = json.loads(members["backup.json"])
    entry = next(e for e in index["files"] if e["path"] == "registry.db")
    entry.update(sha256=hashlib.sha256(data).hexdigest(), size=len(data))
    changed = {"registry.db": data, "backup.json": json.dumps(index).encode()}
    return {name: changed.get(name, data) for name, data in members.items()}


def _bad_rows(members: Members) -> None:
    """Hashes are right, and the registry in it breaks an invariant."""
    members.update(_with_registry(members, ["DELETE FROM aliases WHERE alias = 'production'"]))


def _lacking(members: Members) -> None:
    """A blob that its registry names is neither there nor in the index."""
    name = next(n for n in members if n.startswith("blobs/"))
    del members[name]
    index = json.loads(members["backup.json"])
    index["files"] = [e for e in index["files"] if e["path"] != name]
    members["backup.json"] = json.dumps(index).encode()


SPOILT: dict[str, tuple[Callable[[Members], None], str]] = {
    "registry": (_flip("registry.db"), "registry.db does not have its hash"),
    "blob": (_flip("blobs/"), "does not have its hash"),
    "base": (_flip("bases/"), "does not have its hash"),
    "lost blob": (_drop("blobs/"), "is missing"),
    "no index": (_no_index, "does not begin with backup.json"),
    "extra": (_extra, "is not as its index says"),
    "dots": (_smuggle("bases/../../../evil"), "nothing that a backup has"),
    "absolute": (_smuggle("/tmp/evil"), "nothing that a backup has"),
    "elsewhere": (_smuggle("logs/evil"), "nothing that a backup has"),
    "rows": (_bad_rows, "support has versions and no production"),
    "lacking": (_lacking, "the backup lacks"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_nothing_changes_for_what_is_not_whole(
    home: Home, make: Maker, tmp_path: Path, name: str
) -> None:
    """Refused in words, before a byte of this hub has changed, here and in an empty folder."""
    spoil, message = SPOILT[name]
    members = read(back_up(home, tmp_path / "all.tar"))
    spoil(members)
    write(tmp_path / "bad.tar", members)
    before = tree(home.root)
    for place, force in ((home, True), (Home(tmp_path / "empty"), False)):
        place.root.mkdir(exist_ok=True)
        with pytest.raises(IntegrityError, match=message):
            restore(place, tmp_path / "bad.tar", force=force)
    del before["registry.db-shm"]
    assert {name: data for name, data in tree(home.root).items() if name in before} == before
    assert list((tmp_path / "empty").iterdir()) == []
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("name", ["all.tar", "all.tar.gz"])
def test_a_file_cut_short_anywhere_is_refused(
    home: Home, make: Maker, tmp_path: Path, name: str
) -> None:
    """As after a full disk or a broken copy."""
    whole = back_up(home, tmp_path / name).read_bytes()
    cut = tmp_path / f"cut-{name}"
    for share in (0.0, 0.1, 0.5, 0.8):
        cut.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(IntegrityError, match="not a whole backup"):
            restore(Home(tmp_path / "empty"), cut, force=False)
    assert not (tmp_path / "empty" / "registry.db").exists()


def test_a_link_in_a_backup_is_refused(home: Home, make: Maker, tmp_path: Path) -> None:
    """A member that is no plain file could lead anywhere."""
    members = read(back_up(home, tmp_path / "all.tar"))
    name = next(n for n in members if n.startswith("blobs/"))
    kept = {n: d for n, d in members.items() if n != name}
    write(tmp_path / "bad.tar", kept)
    with tarfile.open(tmp_path / "bad.tar", "a") as tar:
        link = tarfile.TarInfo(name)
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(IntegrityError, match="is not as its index says"):
        restore(Home(tmp_path / "empty"), tmp_path / "bad.tar", force=False)


# -- over a registry in use -----------------------------------------------------------------------


def test_a_registry_is_replaced_only_by_force(home: Home, make: Maker, tmp_path: Path) -> None:
    """And is saved beside, as it was."""
    file = back_up(home, tmp_path / "all.tar")
    make("later")
    log(home, "int_2")
    now = said(home)
    with pytest.raises(Conflict, match="there is a registry here"):
        restore(home, file, force=False)
    assert said(home) == now
    restored = restore(home, file, force=True)
    assert restored.saved is not None
    assert logged(home) == ["int_1"]
    saved = Path(restored.saved)
    with sqlite3.connect(saved / "registry.db") as connection:
        names = connection.execute("SELECT name FROM adapters ORDER BY name").fetchall()
    assert [name for (name,) in names] == ["acme/other", "later", "support"]
    with sqlite3.connect(saved / "interactions.db") as connection:
        assert connection.execute("SELECT COUNT(*) FROM interactions").fetchone() == (2,)


def test_others_go_on_through_a_restore(home: Home, make: Maker, tmp_path: Path) -> None:
    """Open connections see the restored registry, are told by data_version, and can write."""
    file = back_up(home, tmp_path / "all.tar")
    make.registry.aliases.move(make.registry.versions.get("support", 1))
    before = make.registry.data_version()
    restore(home, file, force=True)
    assert make.registry.data_version() != before
    assert make.registry.aliases.number("support", "production") == 2
    assert make().number == 4


def test_numbers_never_go_back(home: Home, make: Maker, tmp_path: Path) -> None:
    """What was published since the backup is gone, but its numbers are not given again."""
    file = back_up(home, tmp_path / "all.tar")
    lost, _, later = make(), make(), make("later")
    restore(home, file, force=True)
    with open_hub(home) as hub:
        assert [summary.name for summary in hub.adapters()] == ["acme/other", "support"]
        assert (lost.number, later.number) == (4, 1)
        assert (make().number, make("later").number) == (6, 2)
        assert hub.resolve("later").version == "later@2"
        hub.gc(keep_days=30, dry_run=False)
        assert broken(hub) == []


def test_folders_of_other_versions_make_way(home: Home, make: Maker, tmp_path: Path) -> None:
    """Another hub's support@1 is not served from this hub's folder; a gateway's is not touched."""
    file = back_up(home, tmp_path / "all.tar")
    other = Home(tmp_path / "other")
    other.root.mkdir()
    with Registry.create(other) as registry:
        theirs = maker(registry, tmp_path / "theirs")
        one = theirs(seed=99)
        leases = Leases.open(other)
        leases.take(one.digest)
        with pytest.raises(Conflict, match="a running gateway uses support@1"):
            restore(other, file, force=True)
        assert registry.versions.get("support", 1).digest == one.digest
        leases.close()
        restore(other, file, force=True)
    with open_hub(other) as hub:
        version = hub.registry.versions.get("support", 1)
        assert version.digest != one.digest
        folder = servable_folder(hub.store, version)
        weights = next(f for f in version.manifest.files if f.path.endswith(".safetensors"))
        assert sha256_of_file(folder / weights.path) == weights.sha256
        assert broken(hub) == []


def test_another_base_of_that_name_is_not_overwritten(
    home: Home, make: Maker, tmp_path: Path
) -> None:
    """Nothing changes; an engine may be serving it."""
    file = back_up(home, tmp_path / "all.tar")
    (home.bases / "tiny" / "config.json").write_text('{"model_type": "another"}')
    with pytest.raises(Conflict, match="the base 'tiny' here is another"):
        restore(home, file, force=True)
    assert json.loads((home.bases / "tiny" / "config.json").read_text())["model_type"] == "another"


def test_a_damaged_registry_is_mended_by_restoring(home: Home, make: Maker, tmp_path: Path) -> None:
    """The damaged files are saved, and no number is given again that a folder still shows."""
    file = back_up(home, tmp_path / "all.tar")
    assert make().number == 4
    make.registry.close()
    home.registry.write_bytes(b"damaged" * 1000)
    with pytest.raises(Conflict, match="damaged"):
        restore(home, file, force=False)
    restored = restore(home, file, force=True)
    assert restored.saved is not None
    assert (Path(restored.saved) / "registry.db").read_bytes() == b"damaged" * 1000
    with Registry.open(home) as registry:
        again = Maker(registry, make.store, make.base, tmp_path / "again", make.seeds)
        assert again().number == 5
    with open_hub(home) as hub:
        assert broken(hub) == []


def test_killed_at_any_moment_of_a_restore(home: Home, make: Maker, tmp_path: Path) -> None:
    """The registry is the old one or the new one, whole, and restoring again brings the new one."""
    file = back_up(home, tmp_path / "all.tar")
    old = said_versions(home)
    for _ in range(3):
        make("later")
    make.registry.close()
    now = [*old, "later@3", "later@2", "later@1"]
    saved = back_up(home, tmp_path / "now.tar")
    outcomes: list[str] = []
    random_ = random.Random(3)
    for _ in range(12):
        outcomes.append(_kill_a_restore(home, file, random_.uniform(0, 0.08), old, now))
        if outcomes[-1] == "new":
            restore(home, saved, force=True)
    restore(home, file, force=True)
    assert sorted(said_versions(home)) == sorted(old)


def said_versions(home: Home) -> list[str]:
    with open_hub(home) as hub:
        return [str(version) for version in hub.registry.versions.all()]


def _kill_a_restore(home: Home, file: Path, after_s: float, old: list[str], now: list[str]) -> str:
    child = os.fork()
    if child == 0:
        restore(home, file, force=True)
        os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with open_hub(home) as hub:
        found = sorted(str(version) for version in hub.registry.versions.all())
        assert broken(hub) == []
        assert found in (sorted(old), sorted(now))
        for version in hub.registry.versions.all():
            servable_folder(hub.store, version)
    return "new" if found == sorted(old) else "old"


# -- ages -----------------------------------------------------------------------------------------


def test_an_older_backup_is_migrated_and_a_newer_one_refused(
    home: Home, make: Maker, tmp_path: Path
) -> None:
    """By the migrations that its databases have had."""
    file = back_up(home, tmp_path / "all.tar")
    members = read(file)
    for statements, name in (
        (["DROP TABLE signatures", "DROP INDEX version_parents_by_parent",
          "DROP TRIGGER versions_keep_their_rows", "DROP TRIGGER deletion_is_final",
          "DROP TRIGGER aliased_versions_stay", "DROP TRIGGER aliases_name_living_versions_1",
          "DROP TRIGGER aliases_name_living_versions_2",
          "DELETE FROM _sqlite_migrations WHERE name <> 'm001_registry'"], "older"),
        (["INSERT INTO _sqlite_migrations VALUES (99, 'registry', 'm999_future', 'now')"],
         "newer"),
    ):  # fmt: skip
        write(tmp_path / f"{name}.tar", _with_registry(members, statements))
    with pytest.raises(HubError, match="made by a newer Loom"):
        restore(Home(tmp_path / "newer"), tmp_path / "newer.tar", force=False)
    assert not (tmp_path / "newer" / "registry.db").exists()
    there = Home(tmp_path / "older")
    restore(there, tmp_path / "older.tar", force=False)
    assert said(there) == said(home)
    with open_hub(there) as hub:
        assert broken(hub) == []


def test_backup_and_restore_from_the_command_line(home: Home, make: Maker, tmp_path: Path) -> None:
    """What was written, and what to do where a registry is in the way."""
    hub = Hub(home.root)
    done = hub.ok("backup", tmp_path / "all.tar.gz")
    assert "3 versions, 4 stored files, 1 base, 1 interaction" in done.stdout
    refused = hub("restore", tmp_path / "all.tar.gz")
    assert refused.status == 1
    assert "--force" in refused.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    there = Hub(empty)
    assert "restored" in there.ok("restore", tmp_path / "all.tar.gz").stdout
    assert there.ok("ls", "--json").json() == hub.ok("ls", "--json").json()
    assert there("restore", tmp_path / "nothing.tar").status == 2
