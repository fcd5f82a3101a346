"""Databases of every earlier release open with today's code, and everything is still there."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hub.database import open_database
from hub.errors import HubError
from hub.feedback.interactions import InteractionLog
from hub.home import Home
from hub.migrations import interaction_migrations, registry_migrations
from hub.names import AdapterRef
from hub.registry import Registry
from hub.sqlite import Database, Migrations
from hub.store import Store
from tests.hub.making import Maker, broken, open_hub

DUMPS = Path(__file__).parent / "databases"
SETS = {"registry": registry_migrations, "interactions": interaction_migrations}


def steps(migrations: Migrations) -> list[str]:
    """The numbers of all migrations of a set, `m001` first."""
    return [step.name.split("_")[0] for step in migrations.pending(Database(memory=True))]


def dumps(kind: str) -> list[Path]:
    return sorted(DUMPS.glob(f"{kind}-m*.sql"))


def load(dump: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as connection:
        connection.executescript(dump.read_text(encoding="utf-8"))
    connection.close()


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    with sqlite3.connect(path) as connection:
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        found = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}
    connection.close()
    return found


@pytest.mark.parametrize("kind", SETS)
def test_every_migration_but_the_newest_has_a_dump(kind: str) -> None:
    """Whoever adds a migration adds a database from before it: `.dump` of one that was used."""
    assert [path.stem.split("-")[1] for path in dumps(kind)] == steps(SETS[kind])[:-1] or (
        [path.stem.split("-")[1] for path in dumps(kind)] == steps(SETS[kind])
    )


@pytest.mark.parametrize("kind", SETS)
def test_a_dump_is_of_the_release_that_it_is_named_after(kind: str) -> None:
    """It has had the migrations up to its own and no later one."""
    for dump in dumps(kind):
        db = Database(sqlite3.connect(":memory:"))
        db.conn.executescript(dump.read_text(encoding="utf-8"))
        had = [step.name.split("_")[0] for step in SETS[kind].applied(db)]
        assert had == steps(SETS[kind])[: len(had)]
        assert had[-1] == dump.stem.split("-")[1]


@pytest.mark.parametrize("dump", dumps("registry"), ids=lambda path: path.stem)
def test_an_old_registry_is_all_there_and_works(dump: Path, tmp_path: Path) -> None:
    """No row is lost by opening it; resolving, publishing, promoting and gc work."""
    home = Home(tmp_path / "home")
    load(dump, home.registry)
    home.create()
    before = rows(home.registry)
    with Registry.open(home) as registry:
        assert registry_migrations.pending(Database(sqlite3.connect(home.registry))) == []
        after = rows(home.registry)
        for name, kept in before.items():
            if name != "_sqlite_migrations":
                # Columns that came later stand after those that there were.
                assert [row[: len(kept[0])] for row in after[name]] == kept, name
        versions = registry.versions.of("support")
        assert [version.number for version in versions] == [3, 2, 1]
        assert registry.resolve(AdapterRef("support")).number == 1
        moves = [move.action for move in registry.aliases.history("support")]
        assert moves == ["rollback", "set", "promote", "publish"]
        assert all(version.manifest.digest() == version.digest for version in versions)
        assert registry.bases.get().name == "tiny"
        make = Maker(registry, Store.of(registry), registry.bases.get(), tmp_path / "made")
        assert make(seed=1).number == 2  # the bytes of then are still its bytes
        assert make(seed=77).number == 4
    with open_hub(home) as hub:
        hub.promote("support@4", "production", expect=1, force=True, why="it works")
        gone = hub.gc(keep_days=0, dry_run=False).versions
        kept_ = {version.number for version in hub.registry.versions.of("support")}
        assert {4, 3} <= kept_  # 3 is candidate
        assert {int(entry.version.split("@")[1]) for entry in gone} == {1, 2, 3, 4} - kept_
        # The dump has no files: what else is broken would be the migration's doing.
        assert [line for line in broken(hub) if not line.startswith("blobs:")] == []


@pytest.mark.parametrize("dump", dumps("interactions"), ids=lambda path: path.stem)
def test_an_old_log_is_all_there(dump: Path, tmp_path: Path) -> None:
    """Interactions, feedback and comparisons, and new ones can be added."""
    home = Home(tmp_path / "home")
    with Registry.create(Home(_made(home))):
        pass
    load(dump, home.interactions)
    before = rows(home.interactions)
    with InteractionLog.open(home) as log:
        assert log.get("int_1").answer == "Hello"
        assert log.get("int_1").key is None
    after = rows(home.interactions)
    for name, kept in before.items():
        if name != "_sqlite_migrations":
            # Columns that came later stand after those that there were.
            assert [row[: len(kept[0])] for row in after[name]] == kept, name


def _made(home: Home) -> Path:
    home.root.mkdir()
    return home.root


def test_migrating_is_done_once_whoever_comes_first(tmp_path: Path) -> None:
    """Opened again, nothing is pending and nothing changes."""
    path = tmp_path / "registry.db"
    load(dumps("registry")[0], path)
    open_database(path, registry_migrations).close()
    before = rows(path)
    open_database(path, registry_migrations).close()
    assert rows(path) == before


def test_a_database_of_a_newer_release_is_not_touched(tmp_path: Path) -> None:
    """An old program could break invariants that it doesn't know; it says what to do instead."""
    path = tmp_path / "registry.db"
    load(dumps("registry")[0], path)
    with sqlite3.connect(path) as connection:
        connection.execute(
            "INSERT INTO _sqlite_migrations VALUES (99, 'registry', 'm999_future', 'now')"
        )
    connection.close()
    before = rows(path)
    with pytest.raises(HubError, match="m999_future") as error:
        open_database(path, registry_migrations)
    assert "upgrade" in str(error.value.hint).lower()
    assert rows(path) == before
