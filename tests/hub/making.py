"""Versions made as a user makes them, through the real publish, each with weights of its own."""

import sqlite3
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from hub.basefiles import read_base
from hub.home import Home
from hub.local import LocalHub
from hub.publish import publish
from hub.records import Base, Version
from hub.registry import Registry
from hub.store import Store
from tests.conftest import acts, adapter_tensors, write_adapter, write_base


@dataclass
class Maker:
    """`make("support")` publishes the next version; `seed` chooses its weights."""

    registry: Registry
    store: Store
    base: Base
    folder: Path
    seeds: Any = field(default_factory=lambda: count(1))

    def __call__(
        self,
        name: str = "support",
        *,
        seed: int | None = None,
        parent: Version | None = None,
        **lineage: Any,
    ) -> Version:
        chosen = next(self.seeds) if seed is None else seed
        source = write_adapter(self.folder / f"made-{chosen}", adapter_tensors(seed=chosen))
        return publish(
            self.registry,
            self.store,
            name,
            source,
            self.base,
            measure_effect=acts,
            lineage=lineage,
            parent=parent,
        )[0]


def maker(registry: Registry, folder: Path) -> Maker:
    """On the base `tiny`, whose folder lies in the hub as a built base's does."""
    source = write_base(registry.home.bases / "tiny")
    identity, shapes = read_base(source, "tiny")
    base = registry.bases.add(str(source), identity, shapes)
    return Maker(registry, Store.of(registry), base, folder)


def open_hub(home: Home) -> LocalHub:
    return LocalHub.open(home, acts)


def broken(hub: LocalHub) -> list[str]:
    """What `hub doctor` calls broken, in its words."""
    return [f"{f.check}: {f.message}" for f in hub.doctor() if f.state == "broken"]


def against_the_rules(home: Home, *statements: str) -> None:
    """Change rows as no code of ours can: without triggers, which are all put back after."""
    connection = sqlite3.connect(home.registry, isolation_level=None)
    triggers = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
    ).fetchall()
    connection.execute("BEGIN IMMEDIATE")
    for name, _ in triggers:
        connection.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        connection.execute(statement)
    for _, sql in triggers:
        connection.execute(sql)
    connection.execute("COMMIT")
    connection.close()


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
