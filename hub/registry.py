"""The registry: one object over one open database, and what references mean in it.

Every write is one transaction that takes SQLite's write lock first, so two processes can't both
win. Files are not its business: `hub.store` keeps them, `hub.publish` puts both together.
"""

from hub.aliases import Aliases
from hub.bases import Bases
from hub.database import open_database
from hub.home import Home
from hub.ledger import Ledger
from hub.migrations import registry_migrations
from hub.names import PRODUCTION, AdapterRef, Alias, Digest, Number
from hub.records import AdapterSummary, Version
from hub.sqlite import Database
from hub.versions import Versions


class Registry:
    """Open it with `Registry.open(home)`; close it with `close()` or a `with` block.

    It belongs to the thread that opened it.
    """

    def __init__(self, db: Database, home: Home) -> None:
        self._db = db
        self.bases = Bases(db, home.root)
        self.versions = Versions(db)
        self.aliases = Aliases(db)
        self.ledger = Ledger(db)

    @classmethod
    def open(cls, home: Home) -> "Registry":
        """Open the registry of an existing hub.

        Raises:
            NoHome: when there is none.
        """
        return cls(open_database(home.require().registry, registry_migrations), home)

    @classmethod
    def create(cls, home: Home) -> "Registry":
        """Open it, making the hub first where there is none."""
        home.create()
        return cls(open_database(home.registry, registry_migrations), home)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> "Registry":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def data_version(self) -> int:
        """Changes whenever another connection has committed: what a cache is keyed by."""
        return int(self._db.execute("PRAGMA data_version").fetchone()[0])

    def resolve(self, reference: AdapterRef, *, at: str | None = None) -> Version:
        """The version that a reference means now, or meant at a time (`hub.clock`'s spelling).

        Raises:
            UnknownReference: saying what exists and what to run.
            InvalidReference: when a digest's first digits fit several versions.
        """
        selector = reference.selector or Alias(PRODUCTION)
        if isinstance(selector, Number):
            return self.versions.get(reference.name, selector.value)
        if isinstance(selector, Digest):
            return self.versions.by_digest(reference, selector)
        number = (
            self.aliases.number(reference.name, selector.value)
            if at is None
            else self.aliases.number_at(reference.name, selector.value, at)
        )
        if number is None:
            raise self.versions.unknown(reference)
        return self.versions.get(reference.name, number)

    def before_rollback(self, name: str, alias: str = PRODUCTION) -> Version:
        """The version that a rollback of an alias goes to; raises as `Aliases.before_rollback`."""
        self.versions.of(name)
        return self.versions.get(name, self.aliases.before_rollback(name, alias))

    def summaries(self) -> list[AdapterSummary]:
        """Every adapter with its aliases, in two queries however many there are."""
        aliases: dict[str, dict[str, int]] = {}
        for row in self._db.query(
            "SELECT name, alias, number FROM aliases"
            " JOIN adapters ON adapters.id = aliases.adapter_id"
            " JOIN versions ON versions.id = version_id ORDER BY name, alias"
        ):
            aliases.setdefault(row["name"], {})[row["alias"]] = row["number"]
        rows = self._db.query(
            "SELECT adapters.name, bases.name AS base, COUNT(versions.id) AS versions,"
            " MAX(number) AS newest, MAX(COALESCE(published_at, created_at)) AS updated_at"
            " FROM adapters JOIN bases ON bases.id = base_id"
            " LEFT JOIN versions ON versions.adapter_id = adapters.id AND deleted_at IS NULL"
            " GROUP BY adapters.id ORDER BY adapters.name"
        )
        return [AdapterSummary(aliases=aliases.get(row["name"], {}), **row) for row in rows]
