"""`hub doctor`: every invariant, broken in a real home, is named with how to mend it."""

import json
import os
import shlex
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import doctor
from hub.facts import Finding
from hub.home import Home
from hub.local import LocalHub
from hub.manifest import describe
from hub.records import Run
from hub.registry import Registry
from hub.sweep import remove_folder
from tests.command import Hub
from tests.conftest import acts
from tests.hub.backups import log
from tests.hub.making import Maker, against_the_rules, maker, open_hub

Break = Callable[[Maker], None]
NEVER = 2**22 + 1  # above every process id that Linux gives


@pytest.fixture
def make(home: Home) -> Iterator[Maker]:
    """A hub with two versions of two adapters, an alias and a log, and nobody using it."""
    home.root.mkdir()
    with Registry.create(home) as registry:
        make = maker(registry, home.root.parent / "made")
        make(), make(), make("other")
        registry.aliases.move(make.registry.versions.get("support", 2), "candidate", action="set")
        yield make


def look(home: Home, *, quick: bool = False) -> dict[str, Finding]:
    with LocalHub.open(home, acts) as hub:
        return {finding.check: finding for finding in hub.doctor(quick=quick)}


def test_a_whole_hub_is_well(make: Maker) -> None:
    """Every check is listed by name, and all are ok."""
    found = look(make.registry.home)
    assert {finding.state for finding in found.values()} == {"ok"}
    assert list(found) == [
        "database", "foreign keys", "schema", "manifests", "records", "production", "aliases",
        "history", "numbers", "folder", "blobs", "folders", "cards", "leftovers", "leases", "runs",
        "bases", "interactions", "room",
    ]  # fmt: skip


def rows(*statements: str) -> Break:
    return lambda make: against_the_rules(make.registry.home, *statements)


def drop(statement: str) -> Break:
    def spoil(make: Maker) -> None:
        with sqlite3.connect(make.registry.home.registry) as connection:
            connection.execute(statement)

    return spoil


def _spoil_pages(make: Maker) -> None:
    home = make.registry.home
    make.registry.snapshot(home.root / "copy")
    make.registry.close()
    with sqlite3.connect(home.root / "copy") as connection:
        page = connection.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'versions_by_digest'"
        ).fetchone()[0]
        size = connection.execute("PRAGMA page_size").fetchone()[0]
    for suffix in ("-wal", "-shm"):
        home.registry.with_name(f"registry.db{suffix}").unlink(missing_ok=True)
    (home.root / "copy").rename(home.registry)
    with home.registry.open("r+b") as stream:
        stream.seek((page - 1) * size + 100)
        stream.write(b"\xff" * (size - 100))


def _weights(make: Maker, number: int = 1) -> tuple[Path, Path]:
    """The blob and the materialised file of a version's weights."""
    version = make.registry.versions.get("support", number)
    entry = next(e for e in version.manifest.files if e.path == "adapter_model.safetensors")
    return Path(make.store.blobs.where(entry.sha256)), make.store.folder(version) / entry.path


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def _lose_blob(make: Maker) -> None:
    _weights(make)[0].unlink()


def _flip_blob(make: Maker) -> None:
    _flip(_weights(make)[0])


def _flip_file(make: Maker) -> None:
    """As where hard links can't be had: a copy of its own, damaged."""
    path = _weights(make)[1]
    path.parent.chmod(0o755)
    copy = path.with_suffix(".copy")
    shutil.copyfile(path, copy)
    copy.replace(path)
    _flip(path)


def _extra_file(make: Maker) -> None:
    folder = _weights(make)[1].parent
    folder.chmod(0o755)
    (folder / "adapter_model.bin").write_bytes(b"pickle")


def _half_folder(make: Maker) -> None:
    path = _weights(make)[1]
    path.parent.chmod(0o755)
    path.unlink()


def _orphan(make: Maker) -> None:
    path = make.registry.home.root / "orphan"
    path.write_text("of a publish that died")
    make.store.blobs.put(path, describe(path, "orphan"))


def _old_scratch(make: Maker) -> None:
    path = make.registry.home.scratch / "half"
    path.write_text("half")
    hours_ago = time.time() - 7200
    os.utime(path, (hours_ago, hours_ago))


def _removed_folder(make: Maker) -> None:
    make.registry.reach.remove(make())


def _dead_lease(make: Maker) -> None:
    folder = make.registry.home.leases / "0123"
    folder.mkdir(parents=True)
    (folder / "lock").touch()


def _run(make: Maker) -> Run:
    ledger = make.registry.ledger
    dataset = ledger.add_dataset(
        digest="d", name="n", source="s", format="messages", rows=1, lint={}
    )
    return ledger.start_run("support", "sft", make.base, dataset, {})


def _cut_off_run(make: Maker) -> None:
    run = _run(make)
    against_the_rules(make.registry.home, f"UPDATE runs SET pid = {NEVER} WHERE id = '{run.id}'")


def _lose_base(make: Maker) -> None:
    shutil.rmtree(make.registry.home.bases)


def _unplug_base(make: Maker) -> None:
    make.registry.bases.add("/not/plugged/in", make.base.identity, make.base.shapes)


def _lose_folder(make: Maker) -> None:
    shutil.rmtree(make.registry.home.data)


def _spoil_log(make: Maker) -> None:
    make.registry.home.interactions.write_bytes(b"not a database at all, whatever it says" * 100)


def _spoil_log_page(make: Maker) -> None:
    """The last page, which opening does not read."""
    log(make.registry.home, "int_1")
    with make.registry.home.interactions.open("r+b") as stream:
        stream.seek(-4096, os.SEEK_END)
        stream.write(b"\xff" * 4096)


def _log_is_a_folder(make: Maker) -> None:
    make.registry.home.interactions.mkdir()


def _empty_log_of_tables(make: Maker) -> None:
    log(make.registry.home, "int_1")
    with sqlite3.connect(make.registry.home.interactions) as connection:
        connection.execute("DROP TABLE interactions")


def _dangling_file(make: Maker) -> None:
    path = _weights(make)[1].with_name("adapter_config.json")
    path.parent.chmod(0o755)
    path.unlink()
    path.symlink_to("/not/there")


def _linked_folder(make: Maker) -> None:
    folder = _weights(make)[1].parent
    outside = make.registry.home.root / "outside"
    shutil.copytree(folder, outside)
    remove_folder(make.registry.home, folder)
    folder.symlink_to(outside)


def _file_for_folder(make: Maker) -> None:
    folder = _weights(make)[1].parent
    remove_folder(make.registry.home, folder)
    folder.write_text("in the way")


def _other_card(make: Maker) -> None:
    card = _weights(make)[1].with_name("README.md")
    card.chmod(0o644)
    card.write_text("mine")


def _open_folder(make: Maker) -> None:
    _weights(make)[1].parent.chmod(0o777)


def _file_for_adapters(make: Maker) -> None:
    shutil.rmtree(make.registry.home.adapters)
    make.registry.home.adapters.write_text("in the way")


def _folder_for_lock(make: Maker) -> None:
    lock = make.registry.home.data / "store.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()


def _folder_for_lease_lock(make: Maker) -> None:
    (make.registry.home.leases / "abc" / "lock").mkdir(parents=True)


BREAKS: dict[str, tuple[Break, str, str, str]] = {
    "pages": (_spoil_pages, "database", "broken", "malformed"),
    "key": (
        rows("INSERT INTO signatures VALUES (99, 'k', 'p', 's', 'w', 'a')"),
        "foreign keys",
        "broken",
        "signatures",
    ),
    "trigger": (drop("DROP TRIGGER versions_are_immutable"), "schema", "broken", "immutable"),
    "index": (drop("DROP INDEX versions_by_digest"), "schema", "broken", "versions_by_digest"),
    "digest": (
        rows("UPDATE versions SET digest = 'beef' WHERE number = 2"),
        "manifests",
        "broken",
        "support@2",
    ),
    "manifest": (
        rows("UPDATE versions SET manifest = '{' WHERE number = 2"),
        "manifests",
        "broken",
        "support@2",
    ),
    "listed": (
        rows("DELETE FROM version_files WHERE path = 'adapter_config.json' AND version_id = 1"),
        "manifests",
        "broken",
        "support@1",
    ),
    "record": (
        rows("UPDATE versions SET lineage = '{' WHERE number = 2"),
        "records",
        "broken",
        "lineage of row 2 of versions",
    ),
    "no production": (
        rows("DELETE FROM aliases WHERE alias = 'production' AND adapter_id = 1"),
        "production",
        "broken",
        "support has versions and no production",
    ),
    "alias of a deleted": (
        rows("UPDATE versions SET deleted_at = 'now' WHERE number = 2"),
        "aliases",
        "broken",
        "support@candidate names version 2, which is deleted",
    ),
    "alias of another": (
        rows("UPDATE aliases SET version_id = 3 WHERE alias = 'candidate'"),
        "aliases",
        "broken",
        "another adapter's",
    ),
    "unrecorded move": (
        rows("UPDATE aliases SET version_id = 1 WHERE alias = 'candidate'"),
        "history",
        "broken",
        "support@candidate is not where its last move put it",
    ),
    "lost move": (
        rows(
            "UPDATE alias_moves SET from_version_id = 1 WHERE alias = 'candidate'",
        ),
        "history",
        "broken",
        "does not begin where the one before ended",
    ),
    "number": (rows("UPDATE adapters SET last_number = 1"), "numbers", "broken", "version 2"),
    "lost blob": (_lose_blob, "blobs", "broken", "adapter_model.safetensors of support@1"),
    "flipped blob": (_flip_blob, "blobs", "broken", "is damaged"),
    "flipped file": (_flip_file, "folders", "broken", "is not what was published"),
    "extra file": (_extra_file, "folders", "broken", "adapter_model.bin was not published"),
    "half a folder": (_half_folder, "folders", "broken", "adapter_model.safetensors is missing"),
    "orphan": (_orphan, "leftovers", "warning", "no version names: 1, 22 bytes"),
    "scratch": (_old_scratch, "leftovers", "warning", "half-written"),
    "removed": (_removed_folder, "leftovers", "warning", "folders of deleted versions: 1"),
    "lease": (_dead_lease, "leases", "warning", "ended without clearing up"),
    "run": (_cut_off_run, "runs", "warning", "was interrupted"),
    "own base": (_lose_base, "bases", "broken", "the base 'tiny' is not at"),
    "base elsewhere": (_unplug_base, "bases", "warning", "/not/plugged/in"),
    "folder": (_lose_folder, "folder", "broken", "copied without it"),
    "log": (_spoil_log, "interactions", "broken", "not a readable SQLite database"),
    "page of the log": (_spoil_log_page, "interactions", "broken", "interactions.db"),
    "folder as log": (_log_is_a_folder, "interactions", "broken", "interactions.db is no file"),
    "table of the log": (_empty_log_of_tables, "interactions", "broken", "table interactions"),
    "table": (drop("DROP TABLE version_parents"), "schema", "broken", "table version_parents"),
    "deep manifest": (
        rows(f"UPDATE versions SET manifest = '{'[' * 50_000}' WHERE number = 2"),
        "manifests",
        "broken",
        "support@2",
    ),
    "lineage that is a list": (
        rows("UPDATE versions SET lineage = '[]' WHERE number = 2"),
        "records",
        "broken",
        "lineage of row 2 of versions",
    ),
    "dangling file": (_dangling_file, "folders", "broken", "adapter_config.json is no plain file"),
    "linked folder": (_linked_folder, "folders", "broken", "a link lies where"),
    "file for a folder": (_file_for_folder, "folders", "broken", "a file lies where"),
    "other card": (_other_card, "cards", "warning", "README.md is not the card of support@1"),
    "open folder": (_open_folder, "folders", "broken", "written by other accounts"),
    "file for adapters": (_file_for_adapters, "folders", "broken", "a file lies where"),
    "folder for the lock": (_folder_for_lock, "blobs", "broken", "store.lock"),
    "folder for a lease's lock": (_folder_for_lease_lock, "leases", "warning", "1 gateways"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_named(make: Maker, name: str) -> None:
    """The check that the damage belongs to says so, names the thing, and tells what to do."""
    spoil, check, state, message = BREAKS[name]
    spoil(make)
    found = look(make.registry.home)[check]
    assert (found.state, message in found.message) == (state, True), found
    assert found.mend


@pytest.mark.parametrize("name", ["log", "page of the log", "table of the log", "folder as log"])
def test_a_broken_log_is_mended_by_itself(make: Maker, name: str) -> None:
    """The advice names the log's file, not the registry, and following it helps."""
    BREAKS[name][0](make)
    home = make.registry.home
    mend = look(home)["interactions"].mend
    assert str(home.interactions) in mend
    assert "hub init" not in mend
    for path in home.data.glob("interactions.db*"):
        path.rename(home.root / path.name)
    assert look(home)["interactions"].state == "ok"


@pytest.mark.parametrize("name", ["deep manifest", "file for adapters", "folder for the lock"])
def test_all_else_is_still_looked_at(make: Maker, name: str) -> None:
    """What stops one look stops no other: the log and the room come last."""
    BREAKS[name][0](make)
    assert list(look(make.registry.home))[-2:] == ["interactions", "room"]


def test_a_lost_production_is_mended_for_good(make: Maker) -> None:
    """The advice is where the history ended, and the history is whole again after it."""
    home = make.registry.home
    against_the_rules(home, "DELETE FROM aliases WHERE alias = 'production' AND adapter_id = 1")
    mend = look(home)["production"].mend
    assert "support@1 " in mend
    Hub(home.root).ok(*shlex.split(mend.strip("`"))[1:])
    assert {finding.state for finding in look(home).values()} == {"ok"}


def test_a_run_that_goes_on_is_no_finding(make: Maker) -> None:
    """Only a run whose process is gone was cut off."""
    _run(make)
    assert look(make.registry.home)["runs"].state == "ok"


def test_quick_compares_sizes(make: Maker) -> None:
    """A flipped byte needs all to be read; a file cut short does not."""
    blob = _weights(make)[0]
    _flip(blob)
    assert look(make.registry.home, quick=True)["blobs"].state == "ok"
    blob.write_bytes(blob.read_bytes()[:-1])
    assert look(make.registry.home, quick=True)["blobs"].state == "broken"


def test_a_full_disk_is_told(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less room than the limit, which is set above what any disk has."""
    monkeypatch.setattr(doctor, "_LITTLE_ROOM", 1 << 80)
    assert look(make.registry.home)["room"].state == "warning"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_a_folder_that_cannot_be_written_is_told(make: Maker) -> None:
    """Reading goes on, and doctor says why nothing can be published."""
    make.registry.home.data.chmod(0o555)
    assert look(make.registry.home)["folder"].state == "broken"


def test_doctor_from_the_command_line(make: Maker) -> None:
    """Exit 0 with warnings, 1 when something is broken; what can't be opened is a finding too."""
    home = make.registry.home
    hub = Hub(home.root)
    _dead_lease(make)
    well = hub.ok("doctor")
    assert "warning" in well.stdout
    assert "hub gc" in well.stdout
    _flip_blob(make)
    ill = hub("doctor", "--json")
    assert ill.status == 1
    assert [f["check"] for f in json.loads(ill.stdout) if f["state"] == "broken"] == ["blobs"]
    against_the_rules(
        home, "INSERT INTO _sqlite_migrations VALUES (99, 'registry', 'm999_future', 'now')"
    )
    newer = hub("doctor")
    assert newer.status == 1
    assert "made by a newer Loom, which knows m999_future" in newer.stdout
    refused = hub("ls")
    assert refused.status == 1
    assert "m999_future" in refused.stderr
    make.registry.close()
    home.registry.write_bytes(b"not a database" * 100)
    assert "not a readable SQLite database" in hub("doctor").stdout


def test_a_mended_hub_is_well_again(make: Maker) -> None:
    """What doctor tells to do helps: the folder is made again, gc takes the leftovers."""
    _flip_file(make)
    _orphan(make)
    home = make.registry.home
    mend = look(home)["folders"].mend
    assert mend.startswith("`chmod")
    assert os.system(mend.split("`")[1]) == 0
    with open_hub(home) as hub:
        hub.gc(keep_days=30, dry_run=False)
        assert {finding.state for finding in hub.doctor()} == {"ok"}
        assert list(hub.verify("support@1", effect=False))
    assert (home.adapters / "support@1" / "adapter_model.safetensors").is_file()
