"""Fine-tuning jobs as OpenAI's API knows them: what was asked for, and what has become of it.

A job's status is also what is wanted: whoever cancels or pauses one writes that here, and the
process that works on it (`hub.jobqueue`) looks. So a job is over at once for whoever asks, and no
message can be lost. Only while its result is being published it is too late.

What happens in the training itself is told by the run's own events (`hub.ledger`); a job adds what
lies before and after.

Whose API key is limited to namespaces sees the jobs of its adapters.
"""

import json
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from hub.clock import now, stamp
from hub.database import one, transaction
from hub.errors import InvalidParameter, UnknownJob
from hub.fence import Fence
from hub.names import OfJob, fine_tuned_name, namespace_of, unnamed
from hub.records import Base
from hub.sqlite import Database
from hub.who import whoami

Status = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
Level = Literal["info", "warn", "error"]
MOST_UNFINISHED = 100
MOST_SEED = 2**31 - 1

_SIGNS = string.ascii_lowercase + string.digits
_JOB = """
    SELECT jobs.*, bases.name AS base, bases.digest AS base_digest FROM jobs
    JOIN bases ON bases.id = base_id
"""
_WITHIN = "namespace IN (SELECT namespace FROM temp.within)"
# A client waits ten minutes for an answer, and asks again a little later.
_ASKED_AGAIN = timedelta(minutes=15)
_OVER = ("succeeded", "failed", "cancelled")
# What of a run's own events is told of its job; how it ended, the job says itself.
_TOLD = "('started', 'step', 'evaluated', 'checkpoint', 'warning')"


@dataclass(frozen=True)
class JobWanted:
    """What is asked for. `adapter` None: one of its own, in `namespace`. `continue_from` is an
    exact version. `hyperparameters` holds what was given, under OpenAI's names. `seed` None: any.
    """

    model: str
    base: Base
    method: Literal["supervised", "dpo"]
    training_file: str
    validation_file: str | None
    adapter: str | None
    namespace: str | None
    suffix: str | None
    continue_from: str | None
    hyperparameters: dict[str, Any]
    seed: int | None
    metadata: dict[str, str] | None


@dataclass(frozen=True)
class Job:
    """`version` is the number of the adapter's version that it became, `step` the checkpoint that
    this is. `error` has code, message and param."""

    number: int
    id: str
    short: str
    adapter: str
    namespace: str | None
    model: str
    base: str
    base_digest: str
    continue_from: str | None
    method: Literal["supervised", "dpo"]
    hyperparameters: dict[str, Any]
    seed: int
    suffix: str | None
    metadata: dict[str, str] | None
    training_file: str
    validation_file: str | None
    created_by: str
    created_at: str
    status: Status
    started_at: str | None
    worker: int | None
    run: str | None
    publishing: bool
    finished_at: str | None
    error: dict[str, str | None] | None
    version: int | None
    step: int | None
    trained_tokens: int | None
    result_file: str | None

    @property
    def over(self) -> bool:
        return self.status in _OVER

    def name(self, *, step: int | None = None) -> str:
        """What its model is called as OpenAI does, or the checkpoint at a step."""
        return fine_tuned_name(self.adapter, OfJob(self.short, self.base, step))


@dataclass(frozen=True)
class JobEvent:
    """`kind` is message, with level and message as data, or one of a run's event's."""

    id: str
    at: str
    kind: str
    data: dict[str, Any]


class Jobs:
    def __init__(self, db: Database, fence: Fence, *, most: int = MOST_UNFINISHED) -> None:
        self._db = db
        self._fence = fence
        self._most = most

    def create(self, wanted: JobWanted, *, again: bool = False) -> Job:
        """`again`: who asks has asked before and got no answer. If that did make a job, within the
        last quarter of an hour, it is this one.

        Raises:
            InvalidParameter: when too many wait already.
        """
        signs = "".join(secrets.choice(_SIGNS) for _ in range(24))
        short = signs[:8]
        if (adapter := wanted.adapter) is None:
            place = f"{wanted.namespace}/" if wanted.namespace else ""
            adapter = f"{place}{unnamed(short)}"
        with transaction(self._db):
            if again and (made := self._made(wanted)):
                return made
            self._refuse_more()
            row = self._db.table("jobs").insert(
                {
                    "id": f"ftjob-{signs}",
                    "short": short,
                    "adapter": adapter,
                    "namespace": namespace_of(adapter),
                    "model": wanted.model,
                    "base_id": wanted.base.id,
                    "continue_from": wanted.continue_from,
                    "method": wanted.method,
                    "hyperparameters": json.dumps(wanted.hyperparameters),
                    "seed": _seed() if wanted.seed is None else wanted.seed,
                    "suffix": wanted.suffix,
                    "metadata": None if wanted.metadata is None else json.dumps(wanted.metadata),
                    "training_file": wanted.training_file,
                    "validation_file": wanted.validation_file,
                    "created_by": whoami(),
                    "created_at": now(),
                    "status": "validating_files",
                }
            )
            number = int(str(row.last_pk))
            say(self._db, number, f"Created fine-tuning job: ftjob-{signs}")
            say(self._db, number, f"Validating training file: {wanted.training_file}")
            if wanted.validation_file is not None:
                say(self._db, number, f"Validating validation file: {wanted.validation_file}")
        return self.get(f"ftjob-{signs}")

    def get(self, job: str) -> Job:
        """Raises UnknownJob."""
        row = one(self._db, f"{_JOB} WHERE jobs.id = ? AND {self._seen()}", job)
        if row is None:
            raise UnknownJob(
                f"no such fine-tuning job: {job[:80]!a}",
                hint="GET /v1/fine_tuning/jobs lists them.",
            )
        return _job(row)

    def all(
        self,
        *,
        after: str | None = None,
        limit: int = -1,
        metadata: Mapping[str, str] | None = None,
        without_metadata: bool = False,
    ) -> list[Job]:
        """Newest first; of a long list, the next `limit` after a job. `metadata` selects those
        that have all of it.

        Raises:
            UnknownJob: for an `after` that is none.
        """
        below = None if after is None else self.get(after).number
        where, values = [self._seen(), "(? IS NULL OR jobs.number < ?)"], [below, below]
        if without_metadata:
            where.append("metadata IS NULL")
        for key, value in (metadata or {}).items():
            where.append("EXISTS (SELECT 1 FROM json_each(metadata) WHERE key = ? AND value = ?)")
            values += [key, value]  # type: ignore[list-item]
        rows = self._db.query(
            f"{_JOB} WHERE {' AND '.join(where)} ORDER BY jobs.number DESC LIMIT ?",
            [*values, limit],
        )
        return [_job(row) for row in rows]

    def named(self, base: Base) -> list[Job]:
        """Those whose version on this base is there to be called, in their order."""
        rows = self._db.query(
            f"{_JOB} WHERE bases.digest = ? AND EXISTS (SELECT 1 FROM adapters"
            " JOIN versions ON versions.adapter_id = adapters.id WHERE adapters.name = jobs.adapter"
            " AND versions.number = jobs.version AND deleted_at IS NULL) ORDER BY jobs.number",
            [base.digest],
        )
        return [_job(row) for row in rows]

    def version_of(self, adapter: str, job: OfJob) -> int | None:
        """The number of the version that a job's model is, None where there is none of that name
        and base, or the checkpoint named was not what was published."""
        row = one(
            self._db,
            "SELECT version FROM jobs JOIN bases ON bases.id = base_id"
            " WHERE short = ? AND adapter = ? AND (? = '' OR bases.name = ?)"
            " AND (? IS NULL OR step = ?)",
            *(job.value, adapter, job.base, job.base, job.step, job.step),
        )
        return None if row is None else row["version"]

    # -- what is wanted ---------------------------------------------------------------------------

    def cancel(self, job: str) -> Job:
        """Raises UnknownJob, and InvalidParameter when it is over."""
        with transaction(self._db):
            found = self._changeable(job, "cancelled")
            self._db.execute(
                "UPDATE jobs SET status = 'cancelled', finished_at = ? WHERE number = ?",
                [now(), found.number],
            )
            # A paused run has no process that would write it down.
            self._db.execute(
                "UPDATE runs SET stopped = 'cancelled' WHERE id = ? AND stopped = 'paused'",
                [found.run],
            )
            say(self._db, found.number, "The job was cancelled")
        return self.get(job)

    def pause(self, job: str) -> Job:
        """Raises UnknownJob, and InvalidParameter when it is over or paused."""
        with transaction(self._db):
            found = self._changeable(job, "paused")
            if found.status == "paused":
                raise _wrong(found, "paused")
            self._db.execute("UPDATE jobs SET status = 'paused' WHERE number = ?", [found.number])
            say(self._db, found.number, "The job was paused")
        return self.get(job)

    def resume(self, job: str) -> Job:
        """Put a paused job, or one whose training failed, back in the queue; it goes on from its
        last checkpoint. Raises UnknownJob, InvalidParameter."""
        with transaction(self._db):
            found = self.get(job)
            began = found.status == "failed" and found.run is not None
            if found.status != "paused" and not began:
                raise _wrong(found, "resumed")
            self._db.execute(
                "UPDATE jobs SET status = 'queued', error = NULL, finished_at = NULL, deaths = 0"
                " WHERE number = ?",
                [found.number],
            )
            say(self._db, found.number, "The job was resumed, and waits for its turn")
        return self.get(job)

    def _changeable(self, job: str, what: str) -> Job:
        found = self.get(job)
        if found.over:
            raise _wrong(found, what)
        if found.publishing:
            raise InvalidParameter(
                f"the result of {job} is being published, so it can't be {what} any more",
                param="fine_tuning_job_id",
            )
        return found

    # -- what happened ----------------------------------------------------------------------------

    def events(self, job: Job, *, after: str | None = None, limit: int = -1) -> list[JobEvent]:
        """Newest first; of a long list, the next `limit` after an event.

        Raises:
            InvalidParameter: for an `after` that is no event of the job.
        """
        both = (
            "SELECT 'm' || id AS id, 0 AS source, id AS number, at, 'message' AS kind,"
            " json_object('level', level, 'message', message) AS data"
            " FROM job_events WHERE job = ? UNION ALL"
            " SELECT 'r' || id, 1, id, at, kind, data FROM run_events"
            f" WHERE run = ? AND kind IN {_TOLD}"
        )
        of_job = [job.number, job.run or ""]
        where, values = "", []
        if after is not None:
            last = one(
                self._db,
                f"SELECT * FROM ({both}) WHERE id = ?",
                *of_job,
                after.removeprefix("ftevent-"),
            )
            if last is None:
                raise InvalidParameter(f"{after[:80]!a} is no event of {job.id}", param="after")
            where = "WHERE (at, source, number) < (?, ?, ?)"
            values = [last["at"], last["source"], last["number"]]
        rows = self._db.query(
            f"SELECT * FROM ({both}) {where} ORDER BY at DESC, source DESC, number DESC LIMIT ?",
            [*of_job, *values, limit],
        )
        return [
            JobEvent(f"ftevent-{row['id']}", row["at"], row["kind"], json.loads(row["data"]))
            for row in rows
        ]

    # -- inside -----------------------------------------------------------------------------------

    def _seen(self) -> str:
        return "1" if self._fence.namespaces is None else _WITHIN

    def _made(self, wanted: JobWanted) -> Job | None:
        """The newest job that the same caller made lately, and that is what is wanted."""
        since = stamp(datetime.now(UTC) - _ASKED_AGAIN)
        metadata = None if wanted.metadata is None else json.dumps(wanted.metadata)
        row = one(
            self._db,
            f"{_JOB} WHERE created_by = ? AND jobs.created_at >= ? AND {self._seen()}"
            " AND model = ? AND base_id = ? AND continue_from IS ? AND method = ?"
            " AND hyperparameters = ? AND metadata IS ? AND training_file = ?"
            " AND validation_file IS ? AND suffix IS ? AND COALESCE(?, seed) = seed"
            " AND COALESCE(?, jobs.adapter) = jobs.adapter ORDER BY jobs.number DESC LIMIT 1",
            *(whoami(), since, wanted.model, wanted.base.id, wanted.continue_from, wanted.method),
            *(json.dumps(wanted.hyperparameters), metadata, wanted.training_file),
            *(wanted.validation_file, wanted.suffix, wanted.seed, wanted.adapter),
        )
        return None if row is None else _job(row)

    def _refuse_more(self) -> None:
        # Of those that the caller sees: a count would tell of others.
        row = one(
            self._db,
            "SELECT COUNT(*) AS waiting FROM jobs WHERE"
            f" status NOT IN ('succeeded', 'failed', 'cancelled') AND {self._seen()}",
        )
        if row is not None and row["waiting"] >= self._most:
            raise InvalidParameter(
                f"{self._most} jobs are not over yet, which is as many as this hub lets wait",
                param="training_file",
                hint="Wait for some, or cancel them.",
            )


def say(db: Database, job: int, message: str, level: Level = "info") -> None:
    """Add to what a job tells. The caller holds the transaction."""
    db.execute(
        "INSERT INTO job_events (job, at, level, message) VALUES (?, ?, ?, ?)",
        [job, now(), level, message],
    )


def _seed() -> int:
    return secrets.randbelow(MOST_SEED + 1)


def _wrong(job: Job, what: str) -> InvalidParameter:
    return InvalidParameter(
        f"{job.id} is {job.status}, so it can't be {what}", param="fine_tuning_job_id"
    )


def _job(row: dict[str, Any]) -> Job:
    dropped = ("base_id", "deaths", "last_checkpoint")
    facts = {key: value for key, value in row.items() if key not in dropped}
    for key in ("hyperparameters", "metadata", "error"):
        facts[key] = None if row[key] is None else json.loads(row[key])
    return Job(**{**facts, "publishing": bool(row["publishing"])})
