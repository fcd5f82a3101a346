"""Fine-tuning jobs and their queue, without any training: what a row may become, and by whom."""

import io
from collections.abc import Callable
from typing import Any

import pytest

from hub.errors import InvalidParameter, UnknownJob, UnknownReference
from hub.home import Home
from hub.jobqueue import MOST_DEATHS, only_worker, worker_lives
from hub.jobs import Job, JobWanted
from hub.names import AdapterRef, OfJob, parse_adapter_reference, parse_reference
from hub.publish import publish
from hub.records import Base, Run
from hub.registry import Registry
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts, write_adapter

Make = Callable[..., Job]


@pytest.fixture
def make(registry: Registry, base: Base) -> Make:
    """`make(adapter="acme/support")` puts a job into the queue."""

    def create(adapter: str | None = "support", **changes: Any) -> Job:
        file = registry.files.add(io.BytesIO(b"{}\n"), "train.jsonl", namespaces=None)
        wanted: dict[str, Any] = {
            "model": "tiny",
            "base": base,
            "method": "supervised",
            "training_file": file.id,
            "validation_file": None,
            "adapter": adapter,
            "namespace": None,
            "suffix": None,
            "continue_from": None,
            "hyperparameters": {},
            "seed": 0,
            "metadata": None,
        }
        return registry.jobs.create(JobWanted(**{**wanted, **changes}))

    return create


def running(registry: Registry, job: Job, pid: int = 1) -> Job:
    registry.queue.validated(job)
    assert registry.queue.take(job)
    registry.queue.began(job, pid)
    return registry.jobs.get(job.id)


def begun(registry: Registry, base: Base, job: Job) -> Run:
    """A run of this very process, as the one that trains begins it."""
    dataset = registry.ledger.add_dataset(
        digest="d" * 64, name="train", source="train.jsonl", format="messages", rows=1, lint={}
    )
    return registry.ledger.start_run(job.adapter, "sft", base, dataset, {})


def published(registry: Registry, store: Store, base: Base, job: Job, tmp_path: Any) -> None:
    folder = write_adapter(tmp_path / job.id)
    version, _ = publish(
        registry, store, job.adapter, folder, base, measure_effect=acts, lineage={}
    )
    assert registry.queue.may_publish(job)
    registry.queue.succeeded(job, version, run=None, step=6, tokens=10, result_file="file-x")


def test_the_oldest_job_is_next_and_those_that_are_paused_are_passed_over(
    registry: Registry, make: Make
) -> None:
    """A paused one comes back to its old place."""
    first, second = make(), make()
    for job in (first, second):
        registry.queue.validated(job)
    registry.jobs.pause(first.id)
    assert registry.queue.next("queued") == registry.jobs.get(second.id)
    registry.jobs.resume(first.id)
    assert registry.queue.next("queued") == registry.jobs.get(first.id)


def test_what_is_wanted_wins_over_what_a_process_does(registry: Registry, make: Make) -> None:
    """A job that was cancelled or paused is neither begun, nor published, nor failed after."""
    job = make()
    registry.jobs.cancel(job.id)
    registry.queue.validated(job)
    assert not registry.queue.take(job)
    registry.queue.failed(job, "code", "words", None)
    assert registry.jobs.get(job.id).status == "cancelled"
    job = running(registry, make())
    registry.jobs.pause(job.id)
    assert not registry.queue.may_publish(job)
    registry.queue.failed(job, "code", "words", None)
    assert registry.jobs.get(job.id).status == "paused"
    with pytest.raises(InvalidParameter, match="is paused"):
        registry.jobs.pause(job.id)
    assert registry.jobs.cancel(job.id).status == "cancelled"
    with pytest.raises(InvalidParameter, match="is cancelled"):
        registry.jobs.cancel(job.id)


def test_while_its_result_is_published_it_is_too_late(
    registry: Registry, store: Store, base: Base, make: Make, tmp_path: Any
) -> None:
    """Neither cancel nor pause: the answer says why, and the job succeeds."""
    job = running(registry, make())
    assert registry.queue.may_publish(job)
    for late in (registry.jobs.cancel, registry.jobs.pause):
        with pytest.raises(InvalidParameter, match="being published"):
            late(job.id)
    published(registry, store, base, job, tmp_path)
    assert registry.jobs.get(job.id).status == "succeeded"


def test_a_job_goes_on_after_deaths_as_long_as_checkpoints_come(
    registry: Registry, base: Base, make: Make
) -> None:
    """Three processes that die without a new checkpoint make it fail; its run can be resumed."""
    job = make()
    run: Run | None = None
    for checkpoint in (True, True, True, False, False):
        job = running(registry, job)
        if run is None:
            run = begun(registry, base, job)
            registry.queue.began(job, run.pid)
        if checkpoint:
            registry.ledger.add_event(run.id, "checkpoint", {"step": 1, "loss": None, "path": ""})
        assert registry.jobs.get(job.id).status == "running"
        registry.queue.died(job)
    assert run is not None
    over = registry.jobs.get(job.id)
    assert MOST_DEATHS == 3
    assert (over.status, over.run) == ("failed", run.id)
    assert over.error is not None
    assert over.error["code"] == "worker_died"
    assert registry.jobs.resume(job.id).status == "queued"
    never = make()
    registry.queue.failed(never, "invalid_training_file", "words", "training_file")
    with pytest.raises(InvalidParameter, match="is failed"):
        registry.jobs.resume(never.id)


def test_one_process_works_through_the_queue(home: Home, registry: Registry) -> None:
    """By a lock that ends with it; looking at it takes nothing away."""
    assert not worker_lives(home)
    with only_worker(home) as mine:
        assert mine
        assert worker_lives(home)
        with only_worker(home) as second:
            assert not second
    assert not worker_lives(home)
    with only_worker(home) as mine:
        assert mine


def test_what_a_job_made_is_found_as_openai_calls_it(
    registry: Registry, store: Store, base: Base, make: Make, tmp_path: Any
) -> None:
    """By the whole name, its checkpoint's, and `name@job:…`; not under another base, adapter or
    checkpoint, and from behind a fence not at all."""
    plain, acme = running(registry, make(None)), running(registry, make("acme/support"))
    with pytest.raises(UnknownReference):
        registry.resolve(parse_adapter_reference(acme.name()))
    for job in (plain, acme):
        published(registry, store, base, job, tmp_path)
    assert plain.name() == f"ft:tiny:Loom::{plain.short}"
    assert acme.name() == f"ft:tiny:acme:support:{acme.short}"
    for job in (plain, acme):
        for text in (job.name(), job.name(step=6), f"{job.adapter}@job:{job.short}"):
            assert str(registry.resolve(parse_adapter_reference(text))) == f"{job.adapter}@1"
            assert str(parse_reference(text)) == text
    for text in (
        f"ft:other:acme:support:{acme.short}",
        f"ft:tiny:acme:other:{acme.short}",
        f"ft:tiny:acme:support:{plain.short}",
        acme.name(step=3),
    ):
        with pytest.raises(UnknownReference):
            registry.resolve(parse_adapter_reference(text))
    assert [job.name() for job in registry.jobs.named(base)] == [plain.name(), acme.name()]
    registry.fence.put_up({"beta"})
    assert registry.jobs.named(base) == []
    with pytest.raises(UnknownReference) as there:
        registry.resolve(AdapterRef("acme/support", OfJob(acme.short)))
    with pytest.raises(UnknownReference) as nowhere:
        registry.resolve(AdapterRef("acme/support", OfJob("00000000")))
    assert str(there.value).replace(acme.short, "00000000") == str(nowhere.value)
    with pytest.raises(UnknownJob):
        registry.jobs.get(acme.id)


def test_as_many_jobs_wait_as_may(registry: Registry, make: Make) -> None:
    """One more is refused until one is over."""
    few = type(registry.jobs)(registry._db, registry.fence, most=2)
    first = make()
    make()
    wanted = JobWanted(
        "tiny",
        registry.bases.get(),
        "supervised",
        "file-x",
        None,
        "x",
        None,
        None,
        None,
        {},
        0,
        None,
    )
    with pytest.raises(InvalidParameter, match="2 jobs"):
        few.create(wanted)
    registry.jobs.cancel(first.id)
    assert few.create(wanted).status == "validating_files"


def test_hub_jobs_lists_them_and_works_until_none_is_left(
    home: Home, registry: Registry, make: Make
) -> None:
    """A bad file fails its job, by its name and nobody's path; then there is nothing to do."""
    hub = Hub(home.root)
    assert "No jobs yet" in hub.ok("jobs", "ls").stderr
    assert hub.ok("jobs", "work").stdout == ""
    job = make()
    hub.ok("jobs", "work")
    (listed,) = hub.ok("jobs", "ls", "--json").json()
    assert (listed["id"], listed["status"]) == (job.id, "failed")
    assert listed["error"]["param"] == "training_file"
    assert listed["error"]["message"].startswith("train.jsonl")
    assert f"{job.id}  failed" in hub.ok("jobs", "ls").stdout
    with only_worker(home):
        assert "already" in hub.ok("jobs", "work").stderr
