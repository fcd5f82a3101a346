"""The registry: one object over one open database, and what references mean in it.

Every write is one transaction that takes SQLite's write lock first, so two processes can't both
win. Files are not its business: `hub.store` keeps them, `hub.publish` puts both together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from hub.aliases import Aliases
from hub.apikeys import ApiKeys
from hub.bases import Bases
from hub.database import one, open_database, snapshot, transaction
from hub.errors import InvalidReference, UnknownReference
from hub.facts import Finding
from hub.fence import Fence
from hub.files import Files
from hub.home import Home
from hub.invariants import check_database
from hub.jobqueue import JobQueue
from hub.jobs import Jobs
from hub.ledger import Ledger
from hub.migrations import registry_migrations
from hub.names import PRODUCTION, AdapterRef, Alias, Digest, Number, OfJob, Selector
from hub.reach import Reach
from hub.records import AdapterSummary, Base, Version
from hub.signatures import Signatures
from hub.sqlite import Database
from hub.versions import Versions

_STORE = "store"
_STORE_OWNER = "store_owner"


class Registry:
    """Open it with `Registry.open(home)`; close it with `close()` or a `with` block.

    It belongs to the thread that opened it.
    """

    def __init__(self, db: Database, home: Home) -> None:
        self._db = db
        self.home = home
        self.bases = Bases(db, home.root)
        self.fence = Fence(db)
        self.versions = Versions(db, self.fence)
        self.aliases = Aliases(db)
        self.reach = Reach(db)
        self.ledger = Ledger(db)
        self.signatures = Signatures(db)
        self.keys = ApiKeys(db)
        self.files = Files(db, self.fence, home)
        self.jobs = Jobs(db, self.fence)
        self.queue = JobQueue(db, self.jobs)

    @classmethod
    def open(cls, home: Home, *, any_thread: bool = False) -> "Registry":
        """Open the registry of an existing hub.

        With `any_thread` it belongs to one thread at a time, and the caller sees to that.

        Raises:
            NoHome: when there is none.
        """
        path = home.require().registry
        db = open_database(path, registry_migrations, any_thread=any_thread, existing=True)
        return cls(db, home)

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

    @property
    def store_url(self) -> str:
        """Where the blobs are, as `hub.blobs` reads it; '' for the home's own folder."""
        row = one(self._db, "SELECT value FROM settings WHERE key = ?", _STORE)
        return str(row["value"]) if row else ""

    @property
    def store_owner(self) -> str:
        """What says in a store that its blobs are this hub's; '' while they are in the home."""
        row = one(self._db, "SELECT value FROM settings WHERE key = ?", _STORE_OWNER)
        return str(row["value"]) if row else ""

    def keep_blobs_at(self, url: str, owner: str) -> None:
        """Look for blobs there from now on; moving them is `hub.relocate`'s business."""
        with transaction(self._db):
            for key, value in ((_STORE, url), (_STORE_OWNER, owner)):
                self._db.execute("INSERT OR REPLACE INTO settings VALUES (?, ?)", [key, value])

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction: what is read inside stays true until what was decided by it is kept."""
        with transaction(self._db):
            yield

    def snapshot(self, path: Path) -> None:
        """Copy one moment of the registry into a new file."""
        snapshot(self._db, path)

    def check(self) -> list[Finding]:
        """Every invariant of the database itself, for `hub doctor`."""
        return check_database(self._db)

    def resolve(self, reference: AdapterRef, *, at: str | None = None) -> Version:
        """The version that a reference means now, or meant at a time (`hub.clock`'s spelling).

        What an alias named then may have been deleted since; its `deleted_at` tells.

        Raises:
            UnknownReference: saying what exists and what to run.
            InvalidReference: when a digest's first digits fit several versions.
        """
        selector = reference.selector or Alias(PRODUCTION)
        if isinstance(selector, OfJob):
            selector = self._of_job(reference, selector)
        if at is not None:
            return self._resolve_at(reference, selector, at)
        if isinstance(selector, Number):
            return self.versions.get(reference.name, selector.value)
        if isinstance(selector, Digest):
            return self.versions.by_digest(reference, selector)
        number = self.aliases.number(reference.name, selector.value)
        if number is None:
            raise self.versions.unknown(reference)
        return self.versions.get(reference.name, number)

    def _of_job(self, reference: AdapterRef, job: OfJob) -> Number:
        # Behind a fence an adapter outside is not there, whatever its jobs are.
        if self.fence.admits(reference.name):
            number = self.jobs.version_of(reference.name, job)
            if number is not None:
                return Number(number)
            if self.jobs.version_of(reference.name, replace(job, step=None)) is not None:
                raise UnknownReference(
                    f"the checkpoint of step {job.step} was not kept",
                    hint="Of a fine-tuning job its best checkpoint is, which is what it published.",
                )
        raise self.versions.unknown(reference)

    def _resolve_at(self, reference: AdapterRef, selector: Selector, at: str) -> Version:
        there = self.versions.living_at(reference.name, at)
        if isinstance(selector, Alias):
            number = self.aliases.number_at(reference.name, selector.value, at)
            found = [version for version in there if version.number == number]
        elif isinstance(selector, Number):
            found = [version for version in there if version.number == selector.value]
        else:
            found = [version for version in there if version.digest.startswith(selector.value)]
        if not found:
            raise UnknownReference(
                f"there was no '{reference}' at {at}",
                hint=f"`hub history {reference.name}` shows every move of its aliases.",
            )
        if len({version.digest for version in found}) > 1:
            raise InvalidReference(
                f"{reference} fitted {len(found)} versions", hint="Give more digits."
            )
        return found[0]

    def before_rollback(self, name: str, alias: str = PRODUCTION) -> Version:
        """The version that a rollback of an alias goes to; raises as `Aliases.before_rollback`."""
        self.versions.of(name)
        return self.versions.get(name, self.aliases.before_rollback(name, alias))

    def summary(self, name: str) -> AdapterSummary:
        """Raises UnknownReference when it has no versions."""
        found = self.summaries(only=name)
        if not found:
            raise self.versions.unknown(AdapterRef(name))
        return found[0]

    def load_on(self, base: Base) -> tuple[int, int]:
        """What an engine of this base must hold: how many adapters, and their highest rank (0
        where there is none)."""
        row = next(
            self._db.query(
                "SELECT COUNT(DISTINCT adapter_id) AS adapters, COALESCE(MAX(rank), 0) AS rank"
                " FROM versions JOIN adapters ON adapters.id = adapter_id"
                " JOIN bases ON bases.id = base_id"
                " WHERE bases.digest = ? AND deleted_at IS NULL",
                [base.digest],
            )
        )
        return int(row["adapters"]), int(row["rank"])

    def summaries(
        self, *, after: str = "", limit: int = -1, only: str | None = None
    ) -> list[AdapterSummary]:
        """Every adapter that has versions, in two queries however many there are.

        By name; of a long list, the next `limit` after a name, or the `only` one.
        """
        where, value = ("name > ?", after) if only is None else ("name = ?", only)
        rows = list(
            self._db.query(
                "SELECT adapters.name, bases.name AS base, COUNT(versions.id) AS versions,"
                " MAX(number) AS newest, MAX(published_at) AS updated_at"
                f" FROM (SELECT * FROM adapters WHERE {where} AND EXISTS (SELECT 1 FROM versions"
                " WHERE adapter_id = adapters.id AND deleted_at IS NULL) ORDER BY name LIMIT ?)"
                " AS adapters JOIN bases ON bases.id = base_id"
                " JOIN versions ON versions.adapter_id = adapters.id AND deleted_at IS NULL"
                " GROUP BY adapters.id ORDER BY adapters.name",
                [value, limit],
            )
        )
        aliases: dict[str, dict[str, int]] = {}
        for row in self._db.query(
            "SELECT name, alias, number FROM aliases"
            " JOIN adapters ON adapters.id = aliases.adapter_id"
            " JOIN versions ON versions.id = version_id"
            " WHERE name BETWEEN ? AND ? ORDER BY name, alias",
            [rows[0]["name"], rows[-1]["name"]] if rows else ["", ""],
        ):
            aliases.setdefault(row["name"], {})[row["alias"]] = row["number"]
        return [AdapterSummary(aliases=aliases.get(row["name"], {}), **row) for row in rows]
