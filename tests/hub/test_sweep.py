"""`hub rm` and `hub gc`: what goes, what stays, and what a crash leaves for the next gc."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.errors import Conflict, UnknownReference, UsageError
from hub.home import Home
from hub.leases import Leases
from hub.local import LocalHub
from hub.manifest import describe
from hub.names import AdapterRef, Number
from hub.publish import servable_folder
from hub.registry import Registry
from tests.command import Hub
from tests.hub.making import Maker, broken, maker, open_hub, tree


@pytest.fixture
def make(registry: Registry, tmp_path: Path) -> Maker:
    return maker(registry, tmp_path / "made")


@pytest.fixture
def hub(home: Home, registry: Registry) -> Iterator[LocalHub]:
    with open_hub(home) as hub:
        yield hub


def rm(hub: LocalHub, reference: str) -> int:
    return hub.remove(reference, whole_adapter=False, why="").size


# -- rm ---------------------------------------------------------------------------------------


def test_rm_refuses_what_an_alias_names(hub: LocalHub, make: Maker) -> None:
    """The refusal names every alias and what to do about it, and nothing changes."""
    make(), make()
    hub.set_alias("support@1", "candidate", expect=None, force=False, why="")
    for reference in ("support@1", "support", "support@candidate"):
        with pytest.raises(Conflict) as refused:
            rm(hub, reference)
        assert "support@candidate and support@production name support@1" in str(refused.value)
        assert "hub alias rm support@candidate" in str(refused.value.hint)
        assert "hub promote" in str(refused.value.hint)
    assert hub.show("support@1").aliases == ("candidate", "production")


def test_a_removed_version_is_gone_from_all_but_history(hub: LocalHub, make: Maker) -> None:
    """It resolves no longer, says when it was deleted, and its bytes wait for gc."""
    one, two = make(), make()
    freed = rm(hub, "support@2")
    assert freed == two.size - sum(f.size for f in two.manifest.files if f in one.manifest.files)
    with pytest.raises(UnknownReference, match="support@2 was deleted at 20"):
        hub.show("support@2")
    with pytest.raises(UnknownReference):
        rm(hub, "support@2")
    assert [facts.number for facts in hub.versions("support")] == [1]
    assert make.store.folder(two).is_dir()
    swept = hub.gc(keep_days=30, dry_run=False)
    assert (swept.versions, swept.size >= freed) == ((), True)
    assert not make.store.folder(two).exists()


def test_numbers_are_never_used_again(hub: LocalHub, make: Maker) -> None:
    """Not after the newest is removed, and not for the same bytes published again."""
    make()
    second = make(seed=50)
    rm(hub, "support@2")
    assert make().number == 3
    again = make(seed=50)
    assert (again.number, again.digest) == (4, second.digest)
    hub.gc(keep_days=30, dry_run=False)
    assert servable_folder(make.store, again).is_dir()
    assert broken(hub) == []


def test_a_whole_adapter_goes_with_its_aliases(hub: LocalHub, make: Maker) -> None:
    """One transaction, recorded with its reason; the name can be used again, its numbers not."""
    make(), make(), make("other")
    hub.set_alias("support@2", "candidate", expect=None, force=False, why="")
    with pytest.raises(UsageError, match="wants a reason"):
        hub.remove("support", whole_adapter=True, why=" ")
    with pytest.raises(UsageError):
        hub.remove("support@2", whole_adapter=True, why="x")
    removed = hub.remove("support", whole_adapter=True, why="retired")
    assert removed.versions == ("support@1", "support@2")
    assert [summary.name for summary in hub.adapters()] == ["other"]
    newest = [(m.alias, m.action, m.to_number, m.why) for m in hub.history("support")][:2]
    assert sorted(newest) == [
        ("candidate", "rm", None, "retired"),
        ("production", "rm", None, "retired"),
    ]
    with pytest.raises(UnknownReference):
        hub.remove("support", whole_adapter=True, why="again")
    assert make().number == 3
    assert hub.resolve("support").version == "support@3"
    assert broken(hub) == []


# -- gc ---------------------------------------------------------------------------------------


def test_gc_keeps_what_is_reached_and_says_why_the_rest_may_go(hub: LocalHub, make: Maker) -> None:
    """Aliases, lineage, leases; a dry run reports exactly what is then done, and does nothing."""
    one = make()
    make(), make(parent=make()), make()
    hub.promote("support@4", "production", expect=None, force=True, why="better")
    hub.set_alias("support@5", "tried", expect=None, force=False, why="")
    hub.remove_alias("support", "tried", why="")
    assert [v.version for v in hub.gc(keep_days=30, dry_run=True).versions] == []
    before = tree(hub.home.root)
    dry = hub.gc(keep_days=0, dry_run=True)
    assert tree(hub.home.root) == before
    swept = hub.gc(keep_days=0, dry_run=False)
    assert (swept.versions, swept.kept) == (dry.versions, dry.kept)
    assert (swept.files, swept.size, dry.dry_run) == (dry.files, dry.size, True)
    why = {entry.version: entry.why for entry in swept.versions}
    assert list(why) == ["support@1", "support@2", "support@5"]
    assert "was production until 20" in why["support@1"]
    assert "never had an alias" in why["support@2"]
    assert "was tried until 20" in why["support@5"]
    assert swept.kept == {"an alias names it": 1, "a version that stays descends from it": 1}
    assert sorted(p.name for p in hub.home.adapters.iterdir()) == ["support@3", "support@4"]
    assert [v.version for v in hub.gc(keep_days=0, dry_run=False).versions] == []
    with pytest.raises(UnknownReference):
        hub.show(str(one))
    assert broken(hub) == []


def test_the_window_keeps_what_was_named_or_published_in_it(hub: LocalHub, make: Maker) -> None:
    """Rolling back within the window always finds its version."""
    make(), make(), make()
    hub.promote("support@2", "production", expect=None, force=True, why="x")
    swept = hub.gc(keep_days=30, dry_run=False)
    assert swept.kept == {
        "an alias names it": 1,
        "an alias named it in that time": 1,
        "published in that time": 1,
    }
    assert hub.rollback("support", to=None, why="").to_number == 1


@pytest.mark.parametrize("days", [-1, 1e9, float("nan")])
def test_a_window_is_a_number_of_days(hub: LocalHub, days: float) -> None:
    """Nothing is deleted by a slip of the pen."""
    with pytest.raises(UsageError):
        hub.gc(keep_days=days, dry_run=True)


def test_gc_frees_only_what_no_other_version_needs(hub: LocalHub, make: Maker) -> None:
    """The same bytes under two names stay until both are gone."""
    make("first"), make("second"), make("first", seed=9), make("second", seed=9)
    rm(hub, "first@2")
    hub.gc(keep_days=30, dry_run=False)
    kept = hub.registry.versions.get("second", 2)
    make.store.verify(kept)
    assert servable_folder(make.store, kept).is_dir()
    rm(hub, "second@2")
    needed = {f.sha256 for v in hub.registry.versions.all() for f in v.manifest.files}
    assert {blob.sha256 for blob in make.store.blobs.all()} > needed
    hub.gc(keep_days=30, dry_run=False)
    assert {blob.sha256 for blob in make.store.blobs.all()} == needed


def test_a_running_gateway_keeps_what_it_uses(hub: LocalHub, make: Maker) -> None:
    """A lease keeps a version from gc, and the files of a removed one until it is let go."""
    make()
    leased, removed = make(), make()
    leases = Leases.open(hub.home)
    leases.take(leased.digest)
    leases.take(removed.digest)
    rm(hub, str(removed))
    swept = hub.gc(keep_days=0, dry_run=False)
    assert swept.kept["a running gateway uses it"] == 1
    assert swept.kept["removed, but a running gateway uses it"] == 1
    for version in (leased, removed):
        make.store.verify(version)
    leases.let_go(removed.digest)
    hub.gc(keep_days=0, dry_run=False)
    assert not make.store.folder(removed).exists()
    make.store.verify(leased)
    leases.close()
    swept = hub.gc(keep_days=0, dry_run=False)
    assert [entry.version for entry in swept.versions] == [str(leased)]


def test_the_next_gc_takes_what_a_killed_one_left(hub: LocalHub, make: Maker) -> None:
    """Killed after the rows were marked, or with blobs gone and a folder left: both are cleaned."""
    make()
    one, two = make(), make()
    hub.registry.reach.delete([one.id, two.id])
    for entry in two.manifest.files:
        if entry.path.endswith(".safetensors"):
            make.store.blobs.delete(entry.sha256)
    assert broken(hub) == []
    hub.gc(keep_days=30, dry_run=False)
    assert sorted(p.name for p in hub.home.adapters.iterdir()) == ["support@1"]
    assert [f.state for f in hub.doctor() if f.state != "ok"] == []


_UNSEEN = """
import sys
from pathlib import Path
from hub.home import Home
from hub.registry import Registry
from tests.hub.making import maker

home, made = Home(Path(sys.argv[1])), Path(sys.argv[2])
index = home.registry.with_name("registry.db-shm")
with Registry.open(home) as registry:
    header = index.read_bytes()[:96]
    print(maker(registry, made)(seed=77))
with index.open("r+b") as stream:
    stream.write(header)
"""


def test_a_commit_that_nobody_saw_is_not_brought_back_without_its_files(
    home: Home, hub: LocalHub, make: Maker, tmp_path: Path
) -> None:
    """Killed inside COMMIT, a publish is whole in the write-ahead log and not yet in its index.

    Nobody sees it, so gc takes its files; the recovery after a crash must not bring it back. Here
    the index's header is put back to what it was before, and a copy without the index recovers.
    """
    make()
    unseen = subprocess.run(
        [sys.executable, "-c", _UNSEEN, str(home.root), str(tmp_path / "unseen")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert unseen.stdout == "support@2\n"
    assert [facts.number for facts in hub.versions("support")] == [1]
    crashed = Home(tmp_path / "crashed")
    without = shutil.ignore_patterns("*-shm")
    shutil.copytree(home.root, crashed.root, ignore=without)
    with open_hub(crashed) as recovered:
        assert [facts.number for facts in recovered.versions("support")] == [2, 1]
    hub.gc(keep_days=30, dry_run=False)
    swept = Home(tmp_path / "swept")
    shutil.copytree(home.root, swept.root, ignore=without)
    with open_hub(swept) as recovered:
        assert broken(recovered) == []
        assert [facts.number for facts in recovered.versions("support")] == [1]


def test_leftovers_go_when_they_are_old(hub: LocalHub, make: Maker, tmp_path: Path) -> None:
    """Scratch of an hour ago and blobs of a publish that died; what is being written stays."""
    make()
    orphan = tmp_path / "orphan"
    orphan.write_bytes(b"x" * 1000)
    make.store.blobs.put(orphan, describe(orphan, "orphan"))
    old, fresh = hub.home.scratch / "old", hub.home.scratch / "fresh"
    for folder in (old, fresh):
        folder.mkdir()
        (folder / "half").write_bytes(b"y" * 500)
    hour_ago = time.time() - 3700
    for path in (old / "half", old):
        os.utime(path, (hour_ago, hour_ago))
    swept = hub.gc(keep_days=30, dry_run=False)
    assert (swept.files, swept.size) == (2, 1500)
    assert [path.name for path in hub.home.scratch.iterdir()] == ["fresh"]


def test_gc_waits_for_a_publish(home: Home, hub: LocalHub, make: Maker, tmp_path: Path) -> None:
    """Blobs that no version names yet are not taken from under the publish that put them."""
    make()
    early = tmp_path / "early"
    early.write_bytes(b"not named yet")
    entry = describe(early, "early")
    swept: list[object] = []

    def sweep() -> None:
        with open_hub(home) as other:
            swept.append(other.gc(keep_days=0, dry_run=False))

    with make.store.adding():
        make.store.blobs.put(early, entry)
        collector = threading.Thread(target=sweep)
        collector.start()
        collector.join(0.3)
        assert make.store.blobs.exists(entry.sha256)
        assert not swept
    collector.join(30)
    assert swept
    assert not make.store.blobs.exists(entry.sha256)


def test_gc_and_rm_from_the_command_line(home: Home, registry: Registry, make: Maker) -> None:
    """Tables and refusals that a person can act on; --json for the rest."""
    make(), make()
    hub = Hub(home.root)
    refused = hub("rm", "support")
    assert (refused.status, refused.stdout) == (1, "")
    assert "support@production names support@1" in refused.stderr
    dry = hub.ok("gc", "--dry-run", "--keep-days", "0")
    assert "support@2" in dry.stdout
    assert "would go: 1 version" in dry.stdout
    swept = hub.ok("gc", "--keep-days", "0", "--json").json()
    assert [entry["version"] for entry in swept["versions"]] == ["support@2"]
    gone = hub("show", "support@2")
    assert gone.status == 1
    assert "was deleted at" in gone.stderr
    assert hub("rm", "support", "--adapter").status == 2
    assert "removed support@1" in hub.ok("rm", "support", "--adapter", "--why", "done").stdout
    with pytest.raises(UnknownReference):
        registry.resolve(AdapterRef("support", Number(1)))
