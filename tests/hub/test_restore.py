"""`hub restore` over a registry in use: the old one or the new one, at every moment."""

import hashlib
import json
import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.errors import Conflict, HubError, IntegrityError
from hub.home import Home
from hub.leases import Leases
from hub.manifest import sha256_of_file
from hub.publish import servable_folder
from hub.registry import Registry
from hub.restore import restore
from tests.hub.backups import back_up, filled, log, logged, read, said, with_registry, write
from tests.hub.making import Maker, broken, maker, open_hub


@pytest.fixture
def make(registry: Registry, tmp_path: Path) -> Maker:
    return filled(registry, tmp_path / "made")


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


def _lose_a_table(home: Home) -> None:
    with sqlite3.connect(home.registry) as connection:
        connection.execute("DROP TABLE version_parents")


def _lose_a_table_of_old(home: Home) -> None:
    """Before the second migration, which then can't be made."""
    _lose_a_table(home)
    with sqlite3.connect(home.registry) as connection:
        connection.execute("DELETE FROM _sqlite_migrations WHERE name LIKE 'm002%'")
        connection.execute("DROP TABLE signatures")


def _folder_for_the_log(home: Home) -> None:
    home.registry.with_name("registry.db-wal").unlink(missing_ok=True)
    home.registry.with_name("registry.db-wal").mkdir()


def _folder_for_requests(home: Home) -> None:
    home.interactions.unlink()
    home.interactions.mkdir()


@pytest.mark.parametrize(
    "spoil", [_lose_a_table, _lose_a_table_of_old, _folder_for_the_log, _folder_for_requests]
)
def test_what_is_damaged_makes_way(
    home: Home, make: Maker, tmp_path: Path, spoil: Callable[[Home], None]
) -> None:
    """A hub that lacks tables, or has folders where files belong, is whole after a restore."""
    file = back_up(home, tmp_path / "all.tar")
    make.registry.close()
    spoil(home)
    restore(home, file, force=True)
    with open_hub(home) as hub:
        assert broken(hub) == []
    assert logged(home) == ["int_1"]


def test_a_bad_database_in_a_backup_is_told_of_its_file(
    home: Home, make: Maker, tmp_path: Path
) -> None:
    """Not of the scratch space, nor with advice about the hub that is here."""
    for name in ("registry.db", "interactions.db"):
        members = read(back_up(home, tmp_path / f"{name}.tar"))
        index = json.loads(members["backup.json"])
        members[name] = b"not a database" * 100
        entry = next(e for e in index["files"] if e["path"] == name)
        entry.update(sha256=hashlib.sha256(members[name]).hexdigest(), size=len(members[name]))
        file = tmp_path / f"bad-{name}.tar"
        write(file, members | {"backup.json": json.dumps(index).encode()})
        before = said(home)
        with pytest.raises(IntegrityError, match=f"the backup's {name}") as refused:
            restore(home, file, force=True)
        assert (refused.value.where, refused.value.hint) == (str(file), "Take another backup.")
        assert said(home) == before


def test_an_index_nested_too_deep_is_refused(home: Home, make: Maker, tmp_path: Path) -> None:
    """As any other that can't be read."""
    members = read(back_up(home, tmp_path / "all.tar"))
    write(tmp_path / "deep.tar", members | {"backup.json": b"[" * 300_000})
    with pytest.raises(IntegrityError, match="can't be read"):
        restore(home, tmp_path / "deep.tar", force=True)


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
        (["DROP TABLE job_events", "DROP TABLE jobs", "DROP TABLE files",
          "DROP TABLE run_events", "ALTER TABLE runs DROP COLUMN wanted",
          "ALTER TABLE runs DROP COLUMN stopped",
          "DROP TABLE api_keys", "DROP TABLE signatures", "DROP INDEX version_parents_by_parent",
          "DROP TRIGGER versions_keep_their_rows", "DROP TRIGGER deletion_is_final",
          "DROP TRIGGER aliased_versions_stay", "DROP TRIGGER aliases_name_living_versions_1",
          "DROP TRIGGER aliases_name_living_versions_2",
          "DELETE FROM _sqlite_migrations WHERE name <> 'm001_registry'"], "older"),
        (["INSERT INTO _sqlite_migrations VALUES (99, 'registry', 'm999_future', 'now')"],
         "newer"),
    ):  # fmt: skip
        write(tmp_path / f"{name}.tar", with_registry(members, statements))
    with pytest.raises(HubError, match="made by a newer Loom"):
        restore(Home(tmp_path / "newer"), tmp_path / "newer.tar", force=False)
    assert not (tmp_path / "newer" / "registry.db").exists()
    there = Home(tmp_path / "older")
    restore(there, tmp_path / "older.tar", force=False)
    assert said(there) == said(home)
    with open_hub(there) as hub:
        assert broken(hub) == []
