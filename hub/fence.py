"""A fence around namespaces: one connection to the registry that sees only what lies within.

An API key may be limited to namespaces, and then it must neither list nor detect anything else, not
by an error's hint, a count or a family tree. So that no query can forget it, the connection itself
sees less: a temporary view named `adapters` takes the place of the table, and everything that is
looked up by an adapter's name, joined with it or counted over it passes through. What is outside
is to such a connection exactly what was never published.

Writes go to the table itself (`main.adapters`), and are within because what they begin with is
looked up before. What concerns the whole hub (gc above all, which would take what it can't see for
garbage) is refused.

What a version says of others in its own records (the `parent` in its lineage, what it was evaluated
against) is left out where those lie outside: see `kept`.
"""

from collections.abc import Collection
from dataclasses import replace

from hub.errors import InsufficientScope, UnknownReference
from hub.names import namespace_of
from hub.records import Evaluation, Version
from hub.sqlite import Database

# The words for a version that is not to be named.
ELSEWHERE = "another adapter"

_VIEW = (
    "PRAGMA temp_store = MEMORY",
    "CREATE TEMP TABLE within (namespace TEXT PRIMARY KEY)",
    "CREATE TEMP VIEW adapters AS SELECT * FROM main.adapters"
    " WHERE substr(name, 1, instr(name, '/') - 1) IN (SELECT namespace FROM temp.within)",
)


class Fence:
    """Belongs to one connection; without `put_up` it lets everything through."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.namespaces: frozenset[str] | None = None

    def put_up(self, namespaces: Collection[str]) -> None:
        """Let only adapters of these namespaces be seen; they may be changed, never lifted."""
        wanted = frozenset(namespaces)
        if wanted == self.namespaces:
            return
        if self.namespaces is None:
            for statement in _VIEW:
                self._db.execute(statement)
        self._db.execute("DELETE FROM temp.within")
        for namespace in wanted:
            self._db.execute("INSERT INTO temp.within VALUES (?)", [namespace])
        self.namespaces = wanted

    def admits(self, name: str) -> bool:
        return self.namespaces is None or namespace_of(name) in self.namespaces

    @property
    def hint(self) -> str:
        """What refusals end with: the limits, and nothing of what is beyond them."""
        if self.namespaces is None:
            return ""
        return f" This API key is for {', '.join(f'{n}/…' for n in sorted(self.namespaces))} only."

    def require(self, name: str, unknown: UnknownReference) -> None:
        """Raises `unknown` for the name of an adapter outside, whether there is one or not."""
        if not self.admits(name):
            raise unknown

    def require_none(self, what: str) -> None:
        """Raises InsufficientScope where a fence stands: `what` concerns the whole hub."""
        if self.namespaces is not None:
            raise InsufficientScope(
                f"{what} concerns the whole hub, and this API key is limited to namespaces",
                hint="Use an admin key without --namespace.",
            )

    # -- what a version's records say of others ---------------------------------------------------

    def kept(self, version: Version) -> Version:
        """A version whose lineage names no parent outside. For telling of it, never for making its
        files: the card in its folder is everybody's."""
        parent = version.lineage.get("parent")
        if self.namespaces is None or parent is None or self._admits_reference(parent):
            return version
        lineage = {k: v for k, v in version.lineage.items() if k not in ("parent", "parent_digest")}
        return replace(version, lineage=lineage)

    def kept_evaluation(self, entry: Evaluation) -> Evaluation:
        if self._admits_reference(entry.against):
            return entry
        result = dict(entry.result)
        for name, value in result.items():
            if isinstance(value, str):
                result[name] = value.replace(entry.against, ELSEWHERE)
        return replace(entry, against=ELSEWHERE, result=result)

    def _admits_reference(self, reference: object) -> bool:
        name = str(reference).partition("@")[0]
        return name == "base" or self.admits(name)
