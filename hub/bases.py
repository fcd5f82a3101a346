"""The bases in the registry: the frozen models that adapters are trained on.

Reading a model's folder is `hub.basefiles`; this module only keeps what was read.
"""

import json
from pathlib import Path
from typing import Any

from hub.clock import now
from hub.database import one, transaction
from hub.errors import Conflict, UnknownBase
from hub.manifest import BaseIdentity, canonical_json
from hub.names import parse_base_name
from hub.records import Base
from hub.sqlite import Database

_DEFAULT_BASE = "default_base"


class Bases:
    """`root` is the hub's folder: a base inside it is kept by its path there, and moves along."""

    def __init__(self, db: Database, root: Path) -> None:
        self._db = db
        self._root = root

    def add(self, source: str, identity: BaseIdentity, shapes: dict[str, tuple[int, ...]]) -> Base:
        """Record a base; the first one becomes the default.

        Adding the same base again only updates where it is found.

        Raises:
            Conflict: when the name belongs to a base with other content that adapters stand on.
        """
        parse_base_name(identity.name)
        path = Path(source)
        inside = path.is_relative_to(self._root)
        kept = path.relative_to(self._root).as_posix() if inside else source
        with transaction(self._db):
            row = one(self._db, "SELECT * FROM bases WHERE name = ?", identity.name)
            if row is not None and row["digest"] != identity.digest():
                self._forget_unused_base(row["id"], identity.name)
                row = None
            if one(self._db, "SELECT 1 FROM adapters WHERE name = ?", identity.name):
                raise Conflict(
                    f"'{identity.name}' is the name of an adapter, which the base would hide",
                    hint="Add the base under another name with --name.",
                )
            if row is None:
                self._db.table("bases").insert(
                    {
                        "name": identity.name,
                        "source": kept,
                        "revision": identity.revision,
                        "config_sha256": identity.config_sha256,
                        "tokenizer_sha256": identity.tokenizer_sha256,
                        "template_sha256": identity.template_sha256,
                        "digest": identity.digest(),
                        "shapes": canonical_json(shapes),
                        "added_at": now(),
                    }
                )
            else:
                self._db.execute("UPDATE bases SET source = ? WHERE id = ?", [kept, row["id"]])
            self._db.execute(
                "INSERT OR IGNORE INTO settings VALUES (?, ?)", [_DEFAULT_BASE, identity.name]
            )
        return self.get(identity.name)

    def _forget_unused_base(self, base_id: int, name: str) -> None:
        used = one(
            self._db,
            "SELECT 1 FROM adapters WHERE base_id = ?"
            " UNION ALL SELECT 1 FROM runs WHERE base_id = ?",
            base_id,
            base_id,
        )
        if used is not None:
            raise Conflict(
                f"the base '{name}' is already here with other content, and adapters stand on it",
                hint="Add the new one under another name with --name.",
            )
        self._db.execute("DELETE FROM bases WHERE id = ?", [base_id])

    def get(self, name: str | None = None) -> Base:
        """A base by name, or the default one.

        Raises:
            UnknownBase: listing those that are there.
        """
        wanted = name if name is not None else self._default()
        row = one(self._db, "SELECT * FROM bases WHERE name = ?", wanted)
        if row is None:
            known = [base.name for base in self.all()]
            raise UnknownBase(
                f"there is no base '{wanted}' here" if wanted else "this hub has no base model yet",
                hint=(f"There are: {', '.join(known)}. " if known else "")
                + "Run `hub base add MODEL` or `hub base starter`.",
            )
        return self._base(row)

    def with_digest(self, digest: str) -> list[Base]:
        """The bases of this content, whatever they are called here."""
        rows = self._db.query("SELECT * FROM bases WHERE digest = ? ORDER BY name", [digest])
        return [self._base(row) for row in rows]

    def all(self) -> list[Base]:
        return [self._base(row) for row in self._db.query("SELECT * FROM bases ORDER BY name")]

    def set_default(self, name: str) -> Base:
        base = self.get(name)
        with transaction(self._db):
            self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [_DEFAULT_BASE, name])
        return base

    def _default(self) -> str:
        row = one(self._db, "SELECT value FROM settings WHERE key = ?", _DEFAULT_BASE)
        return str(row["value"]) if row else ""

    def _base(self, row: dict[str, Any]) -> Base:
        fields = ("name", "revision", "config_sha256", "tokenizer_sha256", "template_sha256")
        return Base(
            id=row["id"],
            name=row["name"],
            source=str(self._root / row["source"]),
            identity=BaseIdentity(**{field: row[field] for field in fields}),
            digest=row["digest"],
            shapes={name: tuple(shape) for name, shape in json.loads(row["shapes"]).items()},
            added_at=row["added_at"],
        )
