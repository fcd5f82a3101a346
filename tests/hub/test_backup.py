"""`hub backup`: what is in it, and that only what is whole comes back out of it."""

import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.errors import Conflict, HubError, IntegrityError, UsageError
from hub.home import Home
from hub.publish import servable_folder
from hub.registry import Registry
from hub.restore import restore
from tests.command import Hub
from tests.hub.backups import Members, back_up, filled, read, said, with_registry, write
from tests.hub.making import Maker, broken, open_hub, tree


@pytest.fixture
def make(registry: Registry, tmp_path: Path) -> Maker:
    return filled(registry, tmp_path / "made")


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
    of_base = {f"bases/tiny/{path.name}" for path in (home.bases / "tiny").iterdir()}
    assert "bases/tiny/model.safetensors" in of_base
    expected = {"registry.db", *of_base, *(f"blobs/{sha}" for sha in blobs)}
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


def _bad_rows(members: Members) -> None:
    """Hashes are right, and the registry in it breaks an invariant."""
    members.update(with_registry(members, ["DELETE FROM aliases WHERE alias = 'production'"]))


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
