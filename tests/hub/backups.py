"""A hub with all that a backup holds, and backups taken apart and put together again."""

import hashlib
import io
import json
import sqlite3
import tarfile
from pathlib import Path

from hub.backup import write_backup
from hub.feedback.interactions import Interaction, InteractionLog
from hub.home import Home
from hub.registry import Registry
from tests.hub.making import Maker, maker, open_hub

Members = dict[str, bytes]


def filled(registry: Registry, folder: Path) -> Maker:
    """Two adapters, a promotion, a lineage, a removed version and a logged request."""
    make = maker(registry, folder)
    make(), make(parent=make(), seed=7), make("acme/other")
    with open_hub(registry.home) as hub:
        hub.promote("support@2", "production", expect=None, force=True, why="better")
        hub.remove("support@3", whole_adapter=False, why="")
    log(registry.home, "int_1")
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


def read(file: Path) -> Members:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def write(file: Path, members: Members) -> None:
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def with_registry(members: Members, statements: list[str]) -> Members:
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
