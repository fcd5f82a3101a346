"""Versions, aliases and their history in a real SQLite file."""

import multiprocessing
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hub import database
from hub.clock import now
from hub.errors import (
    AdapterRejected,
    AliasMoved,
    Conflict,
    HubError,
    InvalidName,
    InvalidReference,
    NoHome,
    UnknownReference,
)
from hub.home import Home
from hub.manifest import BaseIdentity, FileEntry, Manifest
from hub.names import AdapterRef, Alias, Digest, Number
from hub.records import Base, Version
from hub.registry import Registry
from tests.command import Hub


def add(registry: Registry, base: Base, content: int, name: str = "support") -> Version:
    manifest = Manifest(base.identity, (FileEntry("adapter_config.json", f"{content:064x}", 1),))
    return registry.versions.add(name, manifest, rank=4, lineage={})[0]


def test_numbers_count_up_and_content_is_known_again(registry: Registry, base: Base) -> None:
    """The same bytes are the same version; other bytes are the next number."""
    first, second = add(registry, base, 1), add(registry, base, 2)
    assert (first.number, second.number) == (1, 2)
    assert add(registry, base, 1) == first
    assert [version.number for version in registry.versions.of("support")] == [2, 1]


def test_the_first_version_is_production_and_later_ones_are_not(
    registry: Registry, base: Base
) -> None:
    """Publishing never moves production under running traffic."""
    add(registry, base, 1)
    add(registry, base, 2)
    assert registry.resolve(AdapterRef("support")).number == 1
    assert [move.action for move in registry.aliases.history("support")] == ["publish"]


def test_references_resolve_by_number_alias_and_digest(registry: Registry, base: Base) -> None:
    """Every kind of reference finds the version that it names."""
    first, second = add(registry, base, 1), add(registry, base, 2)
    registry.aliases.move(second, "candidate", action="set")
    for selector, expected in (
        (Number(2), second),
        (Alias("candidate"), second),
        (Alias("production"), first),
        (Digest(second.digest[:12]), second),
        (Digest(second.digest), second),
    ):
        assert registry.resolve(AdapterRef("support", selector)) == expected


def test_an_ambiguous_digest_is_refused(registry: Registry, base: Base) -> None:
    """A digest's first digits name one version or none; this asks with digits that all share."""
    versions = [add(registry, base, content) for content in range(20)]
    shared = [v for v in versions if v.digest[0] == versions[0].digest[0]]
    assert len(shared) > 1
    with pytest.raises(InvalidReference, match="fits"):
        registry.resolve(AdapterRef("support", Digest(versions[0].digest[0])))


def test_an_unknown_name_says_what_exists(registry: Registry, base: Base) -> None:
    """The hint lists near names, versions and aliases, and the command to run."""
    with pytest.raises(UnknownReference) as nothing:
        registry.resolve(AdapterRef("support"))
    assert "hub train support" in str(nothing.value.hint)
    add(registry, base, 1)
    with pytest.raises(UnknownReference) as typo:
        registry.resolve(AdapterRef("suport"))
    assert "support" in str(typo.value.hint)
    with pytest.raises(UnknownReference) as number:
        registry.resolve(AdapterRef("support", Number(9)))
    assert "support@production" in str(number.value.hint)
    assert "support@1" in str(number.value.hint)


def test_promote_and_rollback_are_a_stack(registry: Registry, base: Base) -> None:
    """Rolling back twice goes back two versions; the history keeps every move."""
    versions = [add(registry, base, content) for content in (1, 2, 3)]
    for version in versions[1:]:
        registry.aliases.move(version)
    for expected in (2, 1):
        target = registry.before_rollback("support")
        assert target.number == expected
        registry.aliases.move(target, action="rollback", expect=expected + 1)
    with pytest.raises(Conflict, match="no earlier version"):
        registry.before_rollback("support")
    moves = [(m.action, m.from_number, m.to_number) for m in registry.aliases.history("support")]
    assert moves == [
        ("rollback", 2, 1),
        ("rollback", 3, 2),
        ("promote", 2, 3),
        ("promote", 1, 2),
        ("publish", None, 1),
    ]


def test_a_rollback_after_a_rollback_and_a_promote(registry: Registry, base: Base) -> None:
    """What was rolled back is no longer in the way of a later rollback."""
    one, two, three = (add(registry, base, content) for content in (1, 2, 3))
    registry.aliases.move(two)
    registry.aliases.move(one, action="rollback")
    registry.aliases.move(three)
    assert registry.before_rollback("support").number == 1


def test_resolve_at_a_time_answers_what_was_production_then(registry: Registry, base: Base) -> None:
    """The history answers for the past."""
    before = now()
    first, second = add(registry, base, 1), add(registry, base, 2)
    published = registry.aliases.history("support")[0].at
    registry.aliases.move(second)
    reference = AdapterRef("support")
    assert registry.resolve(reference, at=published).number in (1, 2)
    assert registry.resolve(reference, at="9999-01-01T00:00:00.000Z") == second
    with pytest.raises(UnknownReference):
        registry.resolve(reference, at="2000-01-01T00:00:00.000Z")
    assert before <= published
    assert first.number == 1


def test_compare_and_swap_tells_the_loser_what_is_now(registry: Registry, base: Base) -> None:
    """With --expect, an alias that has moved meanwhile stays where it is."""
    add(registry, base, 1)
    second = add(registry, base, 2)
    registry.aliases.move(second, expect=1)
    with pytest.raises(AliasMoved) as lost:
        registry.aliases.move(second, expect=1)
    assert lost.value.current == 2
    assert len(registry.aliases.history("support")) == 2


def _promote(root: str, number: int, barrier: object, results: object) -> None:
    with Registry.open(Home(Path(root))) as registry:
        version = registry.versions.get("support", number)
        barrier.wait()  # type: ignore[attr-defined]
        try:
            registry.aliases.move(version, expect=1)
            results.put(("won", number))  # type: ignore[attr-defined]
        except AliasMoved as error:
            results.put(("lost", error.current))  # type: ignore[attr-defined]


def test_two_processes_promoting_at_once(registry: Registry, base: Base, home: Home) -> None:
    """One wins, the other is told what it is now; never both, never neither."""
    for content in (1, 2, 3):
        add(registry, base, content)
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    children = [
        context.Process(target=_promote, args=(str(home.root), number, barrier, results))
        for number in (2, 3)
    ]
    for child in children:
        child.start()
    outcomes = dict(results.get(timeout=60) for _ in children)
    for child in children:
        child.join(60)
    assert set(outcomes) == {"won", "lost"}
    assert outcomes["won"] == outcomes["lost"] == registry.aliases.of("support")["production"]


def test_two_commands_promoting_at_once(registry: Registry, base: Base, home: Home) -> None:
    """The same from the command line: one exits with 0, the other says what it is now."""
    for content in (1, 2, 3):
        add(registry, base, content)
    hub = Hub(home.root)
    children = {
        number: subprocess.Popen(
            [sys.executable, "-m", "hub", "promote", f"support@{number}", "--expect", "1",
             "--force", "--why", "at once"],
            cwd=home.root,
            env=hub.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (2, 3)
    }  # fmt: skip
    said = {number: (*child.communicate(), child.returncode) for number, child in children.items()}
    won, lost = sorted(said, key=lambda number: said[number][2])
    assert [said[number][2] for number in (won, lost)] == [0, 1]
    assert f"support@production is version {won} now, not 1" in said[lost][1]
    assert registry.aliases.of("support")["production"] == won


def test_an_adapter_that_lost_all_versions_begins_again(registry: Registry, base: Base) -> None:
    """Its next version is production, under the next number."""
    add(registry, base, 1), add(registry, base, 2)
    registry.reach.remove_adapter("support", why="retired")
    assert registry.summaries() == []
    assert add(registry, base, 1).number == 3
    assert registry.resolve(AdapterRef("support")).number == 3
    actions = [(m.action, m.to_number) for m in registry.aliases.history("support")]
    assert actions == [("publish", 3), ("rm", None), ("publish", 1)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM versions WHERE number = 2", "keeps its row"),
        ("UPDATE versions SET deleted_at = 'now' WHERE number = 1", "an alias points to this"),
        ("UPDATE versions SET deleted_at = NULL WHERE number = 2", "stays deleted"),
        ("UPDATE aliases SET version_id = 2", "a version that is there"),
        ("INSERT INTO aliases VALUES (1, 'x', 2)", "a version that is there"),
    ],
)
def test_the_database_itself_keeps_deletion_in_order(
    registry: Registry, base: Base, home: Home, statement: str, reason: str
) -> None:
    """No program can delete what an alias names, bring back what is deleted, or drop its row."""
    add(registry, base, 1)
    registry.reach.remove(add(registry, base, 2))
    with sqlite3.connect(home.registry) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match=reason):
            connection.execute(statement)


def test_a_writer_that_hangs_is_told_in_words(
    registry: Registry, base: Base, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waiting ends with an error that says what to do; nothing was written."""
    add(registry, base, 1)
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with sqlite3.connect(home.registry) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HubError, match="another program has been writing"):
            add(registry, base, 2)
    assert [version.number for version in registry.versions.of("support")] == [1]


def test_a_change_by_another_process_is_noticed(registry: Registry, base: Base, home: Home) -> None:
    """data_version changes when, and only when, somebody else has written."""
    version = add(registry, base, 1)
    before = registry.data_version()
    assert registry.data_version() == before
    with Registry.open(home) as other:
        other.aliases.move(version, "candidate", action="set")
    assert registry.data_version() != before
    assert registry.resolve(AdapterRef("support", Alias("candidate"))) == version


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE versions SET digest = 'x'", "immutable"),
        ("UPDATE version_files SET sha256 = 'x'", "immutable"),
        ("UPDATE alias_moves SET who = 'x'", "append-only"),
        ("DELETE FROM alias_moves", "append-only"),
        ("UPDATE adapters SET last_number = 0", "never used again"),
        ("DELETE FROM bases", "FOREIGN KEY"),
    ],
)
def test_the_database_itself_refuses_to_rewrite_history(
    registry: Registry, base: Base, home: Home, statement: str, reason: str
) -> None:
    """Even plain SQL from another program can't change a version or its history."""
    add(registry, base, 1)
    with sqlite3.connect(home.registry) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        with pytest.raises(sqlite3.IntegrityError, match=reason):
            connection.execute(statement)


def test_an_adapter_keeps_its_base(registry: Registry, base: Base) -> None:
    """A version on another base can't join an adapter."""
    add(registry, base, 1)
    other = registry.bases.add("/x", BaseIdentity("other", "r", "c", "t", ""), {})
    with pytest.raises(AdapterRejected, match="stands on the base 'tiny'"):
        add(registry, other, 2)
    with pytest.raises(Conflict, match="other content"):
        registry.bases.add("/x", BaseIdentity("tiny", "changed", "c", "t", ""), {})


def test_a_name_is_a_base_or_an_adapter(registry: Registry, base: Base) -> None:
    """`model="tiny"` means one thing only."""
    with pytest.raises(InvalidName, match="name of a base"):
        add(registry, base, 1, name="tiny")
    add(registry, base, 1, name="support")
    with pytest.raises(Conflict, match="name of an adapter"):
        registry.bases.add("/x", BaseIdentity("support", "r", "c", "t", ""), {})


@pytest.mark.parametrize("name", ["x y", "a@b", "base", "auto", "", "../x", "a/b/c", "a#b"])
def test_names_that_no_base_can_have(registry: Registry, name: str) -> None:
    """A base is named as models are: nothing that a reference would read otherwise."""
    with pytest.raises(InvalidName, match="can't name a base"):
        registry.bases.add("/x", BaseIdentity(name, "r", "c", "t", ""), {})


def test_a_base_inside_the_hub_moves_along(registry: Registry, home: Home, tmp_path: Path) -> None:
    """A copied or renamed hub finds its own base, not the one of the old place."""
    identity = BaseIdentity("mine", "r", "c", "t", "")
    registry.bases.add(str(home.bases / "mine"), identity, {})
    moved = Home(tmp_path / "moved")
    shutil.copytree(home.root, moved.root)
    with Registry.open(moved) as there:
        assert there.bases.get("mine").source == str(moved.bases / "mine")


def test_a_folder_without_a_hub_is_told_so(tmp_path: Path) -> None:
    """No command makes a database by accident."""
    with pytest.raises(NoHome) as error:
        Registry.open(Home(tmp_path))
    assert "hub init" in str(error.value.hint)
    assert list(tmp_path.iterdir()) == []
