"""What happened: data sets seen, training runs, evaluations."""

import json
import os
import secrets
from datetime import UTC, datetime
from typing import Any, Literal

from hub.clock import now
from hub.database import BUSY_TIMEOUT_S, one, transaction
from hub.errors import UnknownRun
from hub.manifest import canonical_json
from hub.records import Base, Dataset, Evaluation, Run, RunEvent, Version
from hub.sqlite import Database

_RUN = """
    SELECT runs.*, bases.name AS base, datasets.digest AS dataset_digest FROM runs
    JOIN bases ON bases.id = base_id JOIN datasets ON datasets.id = dataset_id
"""
_EVALUATION = """
    SELECT evaluations.*, adapters.name || '@' || number AS version,
           datasets.digest AS dataset_digest
    FROM evaluations JOIN versions ON versions.id = version_id
    JOIN adapters ON adapters.id = versions.adapter_id
    JOIN datasets ON datasets.id = evaluations.dataset_id
"""


class Ledger:
    def __init__(self, db: Database) -> None:
        self._db = db

    # -- data sets --------------------------------------------------------------------------------

    def add_dataset(
        self, *, digest: str, name: str, source: str, format: str, rows: int, lint: dict[str, Any]
    ) -> Dataset:
        """Record a data set by its digest; one that is known already keeps its first record."""
        with transaction(self._db):
            self._db.table("datasets").insert(
                {
                    "digest": digest,
                    "name": name,
                    "source": source,
                    "format": format,
                    "rows": rows,
                    "lint": canonical_json(lint),
                    "added_at": now(),
                },
                ignore=True,
            )
        row = one(self._db, "SELECT * FROM datasets WHERE digest = ?", digest)
        assert row is not None
        return Dataset(**{**row, "lint": json.loads(row["lint"])})

    def dataset(self, digest: str) -> Dataset | None:
        """The data set of this digest, if it was ever seen here."""
        row = one(self._db, "SELECT * FROM datasets WHERE digest = ?", digest)
        return Dataset(**{**row, "lint": json.loads(row["lint"])}) if row else None

    # -- runs -------------------------------------------------------------------------------------

    def start_run(
        self, adapter: str, method: str, base: Base, dataset: Dataset, config: dict[str, Any]
    ) -> Run:
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        with transaction(self._db):
            self._db.table("runs").insert(
                {
                    "id": run_id,
                    "adapter": adapter,
                    "method": method,
                    "status": "running",
                    "base_id": base.id,
                    "dataset_id": dataset.id,
                    "config": canonical_json(config),
                    "pid": os.getpid(),
                    "started_at": now(),
                }
            )
            self.add_event(run_id, "started", {"resumed": False})
        return self.run(run_id)

    def resume_run(self, run_id: str) -> Run:
        """Mark a run as running again, now by this process."""
        with transaction(self._db):
            self._db.table("runs").update(
                run_id,
                {
                    "status": "running",
                    "pid": os.getpid(),
                    "finished_at": None,
                    "error": None,
                    "wanted": None,
                    "stopped": None,
                },
            )
            self.add_event(run_id, "started", {"resumed": True})
        return self.run(run_id)

    def finish_run(self, run_id: str, lineage: dict[str, Any]) -> Run:
        """The run's adapter is whole; `lineage` is what a version made from it will carry."""
        return self._end_run(run_id, "finished", ("finished", {}), lineage=canonical_json(lineage))

    def fail_run(self, run_id: str, error: str) -> Run:
        return self._end_run(run_id, "failed", ("failed", {"error": error}), error=error)

    def stop_run(
        self, run_id: str, stopped: Literal["cancelled", "paused"], *, step: int | None = None
    ) -> Run:
        """The run ended because somebody wanted that; `resume_run` takes it up again."""
        return self._end_run(run_id, "failed", (stopped, {"step": step}), stopped=stopped)

    def want(self, run_id: str, what: Literal["cancel", "pause"] | None) -> None:
        """Ask a run to end with its next step; it looks about once a second."""
        with transaction(self._db):
            self._db.execute("UPDATE runs SET wanted = ? WHERE id = ?", [what, run_id])

    def wanted(self, run_id: str) -> str | None:
        row = one(self._db, "SELECT wanted FROM runs WHERE id = ?", run_id)
        return row["wanted"] if row else None

    def _end_run(
        self, run_id: str, status: str, event: tuple[str, dict[str, Any]], **columns: str
    ) -> Run:
        with transaction(self._db):
            self._db.table("runs").update(
                run_id, {"status": status, "finished_at": now(), "wanted": None, **columns}
            )
            self.add_event(run_id, *event)
        return self.run(run_id)

    def run(self, run_id: str) -> Run:
        """Raises UnknownRun."""
        run = self.find_run(run_id)
        if run is None:
            raise UnknownRun(f"there is no run '{run_id}'", hint="`hub runs ls` lists them.")
        return run

    def find_run(self, run_id: str) -> Run | None:
        row = one(self._db, f"{_RUN} WHERE runs.id = ?", run_id)
        return _run(row) if row else None

    def runs(self, adapter: str | None = None) -> list[Run]:
        """Newest first."""
        where, values = ("WHERE adapter = ?", [adapter]) if adapter else ("", [])
        rows = self._db.query(f"{_RUN} {where} ORDER BY started_at DESC, runs.id DESC", values)
        return [_run(row) for row in rows]

    def dataset_of(self, run: Run) -> Dataset:
        row = one(self._db, "SELECT * FROM datasets WHERE digest = ?", run.dataset_digest)
        assert row is not None
        return Dataset(**{**row, "lint": json.loads(row["lint"])})

    # -- what happens in a run --------------------------------------------------------------------

    def add_event(
        self, run_id: str, kind: str, data: dict[str, Any], *, wait_s: float = BUSY_TIMEOUT_S
    ) -> int:
        """Write down what happened now; the event's id.

        Raises:
            HubError: when others have been writing for `wait_s`.
        """
        with transaction(self._db, wait_s=wait_s):
            done = self._db.execute(
                "INSERT INTO run_events (run, at, kind, data) VALUES (?, ?, ?, ?)",
                [run_id, now(), kind, canonical_json(data)],
            )
        assert done.lastrowid is not None
        return done.lastrowid

    def events(self, run_id: str, *, after: int = 0) -> list[RunEvent]:
        """Of one run, oldest first; those with an id greater than `after`."""
        rows = self._db.query(
            "SELECT * FROM run_events WHERE run = ? AND id > ? ORDER BY id", [run_id, after]
        )
        return [RunEvent(**{**row, "data": json.loads(row["data"])}) for row in rows]

    # -- evaluations ------------------------------------------------------------------------------

    def add_evaluation(
        self,
        version: Version,
        *,
        against: str,
        dataset: Dataset,
        metric: str,
        verdict: str,
        result: dict[str, Any],
    ) -> Evaluation:
        with transaction(self._db):
            self._db.table("evaluations").insert(
                {
                    "version_id": version.id,
                    "against": against,
                    "dataset_id": dataset.id,
                    "metric": metric,
                    "verdict": verdict,
                    "result": canonical_json(result),
                    "at": now(),
                }
            )
        return self.evaluations(version)[0]

    def evaluations(self, version: Version) -> list[Evaluation]:
        """Of one version, newest first."""
        rows = self._db.query(
            f"{_EVALUATION} WHERE version_id = ? ORDER BY evaluations.id DESC", [version.id]
        )
        return [
            Evaluation(
                id=row["id"],
                version=row["version"],
                against=row["against"],
                dataset_digest=row["dataset_digest"],
                metric=row["metric"],
                verdict=row["verdict"],
                result=json.loads(row["result"]),
                at=row["at"],
            )
            for row in rows
        ]


def _run(row: dict[str, Any]) -> Run:
    return Run(
        id=row["id"],
        adapter=row["adapter"],
        method=row["method"],
        status=row["stopped"] or row["status"],
        base=row["base"],
        dataset_digest=row["dataset_digest"],
        config=json.loads(row["config"]),
        pid=row["pid"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        lineage=json.loads(row["lineage"]) if row["lineage"] else None,
        error=row["error"],
        wanted=row["wanted"],
    )


def process_lives(pid: int) -> bool:
    """Whether there is a process of this id, which may be another's by now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
