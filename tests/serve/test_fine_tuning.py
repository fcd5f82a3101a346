"""OpenAI's fine-tuning API: the unmodified client, a real base, a real training by the real worker.

Only the engine is the double: what trains, publishes and survives are the processes themselves.
"""

import asyncio
import io
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2  # which the client is made of
import pytest
from openai import APIStatusError, AsyncOpenAI, BadRequestError, NotFoundError

from hub.cli.job_process import _config, _rated, _told, _train
from hub.errors import InvalidConfig, InvalidData, RunStopped
from hub.home import Home
from hub.jobqueue import worker_lives
from hub.jobs import Job, JobWanted
from hub.names import AdapterRef
from hub.records import Base
from hub.registry import Registry
from serve.engines.spec import EngineSpec
from serve.run import make_engines
from serve.settings import Settings
from tests.serve.conftest import MESSAGES, Gateway, running, until
from tests.serve.engine_double import EngineDouble
from tests.serve.keyed import Keys, keys
from tests.serve.processes import alive, soon
from tests.train.conftest import chats, model_folder, tiny_base

__all__ = ["keys", "model_folder", "tiny_base"]

Rows = list[dict[str, Any]]
LIMIT_S = 240
BAD: dict[str, Any] = {"messages": "none"}


@pytest.fixture
def settings(tiny_base: Base, double: EngineDouble) -> Settings:
    return Settings(base=tiny_base, engines_elsewhere=(EngineSpec(double.url),), max_loras=2)


@pytest.fixture
def nothing_left(home: Home) -> Iterator[None]:
    """However a test ends, no process outlives it, also none that it has stopped."""
    yield
    with Registry.open(home) as registry:
        for job in registry.jobs.all():
            if not job.over:
                registry.jobs.cancel(job.id)
                if job.worker is not None and alive(job.worker):
                    os.kill(job.worker, signal.SIGKILL)
    soon(lambda: not worker_lives(home), LIMIT_S)


def openai(gateway: Gateway, key: str = "none") -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


async def upload(client: AsyncOpenAI, rows: Rows, name: str = "train.jsonl") -> str:
    text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    return (await client.files.create(file=(name, text), purpose="fine-tune")).id


async def until_job(
    client: AsyncOpenAI, job: str, fits: Callable[[Any], object], limit_s: float = LIMIT_S
) -> Any:
    async with asyncio.timeout(limit_s):
        while True:
            found = await client.fine_tuning.jobs.retrieve(job)
            if fits(found):
                return found
            await asyncio.sleep(0.1)


async def test_from_files_to_chat_whatever_dies_on_the_way(
    home: Home, settings: Settings, nothing_left: None
) -> None:
    """Files, a job, its events and checkpoints, results; then chat, by `ft:…` and by its own name.

    A job that is paused before its turn waits until it is resumed. One with a bad row is known to
    fail, by its file's name and the row, while another trains. The worker outlives the server.
    Killed with kill -9, its training dies with it, and the next worker goes on from the last
    checkpoint, to the same end. A job that is cancelled is over at once, and its process too.
    """
    async with running(home, settings, make_engines(home, settings)) as gateway:
        gateway.parts.jobs.start()
        async with openai(gateway) as client:
            job = await queued(client)
            failing = await client.fine_tuning.jobs.create(
                model="base", training_file=await upload(client, [*chats(20), BAD], "bad.jsonl")
            )
            assert (await client.fine_tuning.jobs.resume(job.id)).status == "queued"
            await until(lambda: checkpoints(home, job.id) >= 1, LIMIT_S)
            worker, trainer = processes(home, job.id)
            # Held fast, so that it can't come to its end meanwhile.
            os.kill(trainer, signal.SIGSTOP)
            await refused(client, failing.id, home)
    assert worker_lives(home)
    before = checkpoints(home, job.id)
    os.kill(trainer, signal.SIGCONT)
    await until(lambda: checkpoints(home, job.id) > before, LIMIT_S)
    os.kill(trainer, signal.SIGSTOP)
    async with (
        running(home, settings, make_engines(home, settings)) as gateway,
        openai(gateway) as client,
    ):
        assert (await client.fine_tuning.jobs.retrieve(job.id)).status == "running"
        os.kill(worker, signal.SIGKILL)
        os.kill(trainer, signal.SIGCONT)
        await until(lambda: not alive(trainer), LIMIT_S)
        gateway.parts.jobs.start()
        done = await until_job(client, job.id, lambda job: job.finished_at)
        await succeeded(client, home, done)
        await answers(client, home, done)
        await cancelled(client, home, done)


async def queued(client: AsyncOpenAI) -> Any:
    """A job that waits, paused."""
    jobs = client.fine_tuning.jobs
    rate: Any = {"n_epochs": 20, "learning_rate_multiplier": 2}
    job = await jobs.create(
        model="tiny",
        training_file=await upload(client, chats(40)),
        validation_file=await upload(client, chats(60)[50:], "valid.jsonl"),
        suffix="Colours",
        seed=3,
        method={"type": "supervised", "supervised": {"hyperparameters": rate}},
        metadata={"team": "a"},
    )
    assert (job.object, job.status) == ("fine_tuning.job", "validating_files")
    assert (job.model, job.seed, job.metadata) == ("tiny", 3, {"team": "a"})
    assert (job.fine_tuned_model, job.finished_at, job.trained_tokens) == (None, None, None)
    assert (await jobs.pause(job.id)).status == "paused"
    return job


async def refused(client: AsyncOpenAI, job: str, home: Home) -> None:
    failed = await until_job(client, job, lambda job: job.finished_at)
    assert failed.status == "failed"
    assert (failed.error.code, failed.error.param) == ("invalid_training_file", "training_file")
    assert "bad.jsonl" in failed.error.message
    assert "21" in failed.error.message
    assert str(home.root) not in failed.model_dump_json()


async def succeeded(client: AsyncOpenAI, home: Home, done: Any) -> None:
    """What is told of it, and what is in its version."""
    jobs = client.fine_tuning.jobs
    assert done.status == "succeeded", done.error
    assert done.fine_tuned_model == f"ft:tiny:Loom:colours:{done.id[6:14]}"
    assert done.hyperparameters.model_dump() == {
        "n_epochs": 20,
        "batch_size": 16,
        "learning_rate_multiplier": 2,
    }
    assert done.trained_tokens > 0
    with Registry.open(home) as registry:
        assert len(registry.ledger.runs()) == 1
        version = registry.resolve(AdapterRef("colours"))
    config, rows = version.lineage["config"], version.lineage["dataset"]
    assert (config["learning_rate"], config["seed"]) == (1e-2, 3)  # twice the preset's
    assert (rows["name"], rows["training_rows"], rows["validation_rows"]) == ("train", 40, 10)
    assert str(home.root) not in json.dumps(version.lineage)

    events = [event async for event in jobs.list_events(done.id, limit=10)]
    assert len({event.id for event in events}) == len(events)
    times = [event.created_at for event in events]
    assert times == sorted(times, reverse=True)
    messages = [event.message for event in reversed(events)]
    assert messages[0] == f"Created fine-tuning job: {done.id}"
    assert messages[-1] == "The job has successfully completed"
    assert messages.count("Training begins") == 1
    assert messages.count("Training goes on from its last checkpoint") == 1
    assert any("ended early" in message for message in messages)
    assert any(done.fine_tuned_model in message for message in messages)
    assert {event.level for event in events} <= {"info", "warn"}
    metrics: list[Any] = [event.data for event in events if event.type == "metrics"]
    last = max(data["step"] for data in metrics)

    best = version.lineage["metrics"]["best_step"]
    found = [one async for one in jobs.checkpoints.list(done.id, limit=3)]
    assert [one.step_number for one in found] == list(range(last, 0, -3))
    losses = {one.step_number: one.metrics.full_valid_loss for one in found}
    assert min(losses, key=lambda step: losses[step]) == best
    (results,) = done.result_files
    assert (await client.files.retrieve(results)).purpose == "fine-tune-results"
    lines = (await client.files.content(results)).text.splitlines()
    assert lines[0] == "step,train_loss,valid_loss"
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, last + 1))


async def answers(client: AsyncOpenAI, home: Home, done: Any) -> None:
    """It can be called at once, by every name; a checkpoint that was not the best can't."""
    listed = {model.id async for model in client.models.list()}
    assert listed == {"tiny", "colours", "colours@1", done.fine_tuned_model}
    with Registry.open(home) as registry:
        version = registry.resolve(AdapterRef("colours"))
    best = version.lineage["metrics"]["best_step"]
    checkpoint = f"{done.fine_tuned_model}:ckpt-step-"
    for name in (done.fine_tuned_model, f"{checkpoint}{best}", "colours", "colours@1"):
        answer = await client.chat.completions.create(model=name, messages=MESSAGES)
        assert answer.model == "colours@1"
        assert version.digest[:12] in str(answer.choices[0].message.content)
    with pytest.raises(NotFoundError, match="was not kept"):
        await client.chat.completions.create(model=f"{checkpoint}{best + 3}", messages=MESSAGES)


async def cancelled(client: AsyncOpenAI, home: Home, done: Any) -> None:
    """One that goes on from what was made is begun, and then not wanted."""
    jobs = client.fine_tuning.jobs
    with pytest.raises(BadRequestError, match="is succeeded"):
        await jobs.cancel(done.id)
    more = await jobs.create(model=done.fine_tuned_model, training_file=done.training_file)
    with Registry.open(home) as registry:
        job = registry.jobs.get(more.id)
        assert (job.adapter, job.continue_from) == ("colours", "colours@1")
    await until_job(client, more.id, lambda job: job.status == "running")
    await until(lambda: processes(home, more.id), LIMIT_S)
    _, trainer = processes(home, more.id)
    assert (await jobs.cancel(more.id)).status == "cancelled"
    await until(lambda: not alive(trainer), LIMIT_S)
    assert (await jobs.retrieve(more.id)).status == "cancelled"


def checkpoints(home: Home, name: str) -> int:
    """The step of the newest one."""
    with Registry.open(home) as registry:
        job = registry.jobs.get(name)
        assert not job.over, job.error
        events = registry.ledger.events(job.run) if job.run else []
        return max((e.data["step"] for e in events if e.kind == "checkpoint"), default=0)


def processes(home: Home, name: str) -> tuple[int, ...]:
    """Of the worker, and of the training that it has started; none yet at the very beginning."""
    with Registry.open(home) as registry:
        trainer = registry.jobs.get(name).worker
    if trainer is None:
        return ()
    stat = Path(f"/proc/{trainer}/stat").read_text().rpartition(")")[2].split()
    return int(stat[1]), trainer


def test_a_training_that_is_paused_stops_at_a_checkpoint_and_goes_on_from_it(
    home: Home, registry: Registry, tiny_base: Base
) -> None:
    """What the worker's process does, here in this one: told by the job's row alone."""
    job = made(registry, tiny_base, n_epochs=1000)
    registry.queue.validated(job)
    reached = []
    for end in (registry.jobs.pause, registry.jobs.cancel):
        assert registry.queue.take(job)
        registry.queue.began(job, os.getpid())
        elsewhere = Elsewhere(home, job.id, end.__name__, after=max(reached, default=0))
        with pytest.raises(RunStopped), elsewhere:
            _train(registry, home, registry.jobs.get(job.id))
        registry.queue.find_run(job)
        run = registry.ledger.run(str(registry.jobs.get(job.id).run))
        assert run.status == registry.jobs.get(job.id).status
        reached.append(checkpoints_of(registry, run.id))
        if run.status == "paused":
            registry.jobs.resume(job.id)
    assert len(registry.ledger.runs()) == 1
    assert reached[0] < reached[1]
    started = [e.data for e in registry.ledger.events(run.id) if e.kind == "started"]
    assert started == [{"resumed": False}, {"resumed": True}]


def test_what_a_job_fails_of_is_told_without_the_options_of_commands(
    home: Home, registry: Registry, tiny_base: Base
) -> None:
    """Whoever asked by HTTP has no --force; a rate out of bounds is told by what was asked for."""
    job = made(registry, tiny_base, learning_rate_multiplier=1000)
    registry.queue.validated(job)
    assert registry.queue.take(job)
    with pytest.raises(InvalidConfig) as refused:
        _rated(registry, home, job, _config(registry, job))
    rate = "1000 times 0.005 is a learning rate of 5, and 1 is the most"
    message = f"learning_rate_multiplier: {rate}"
    for error, told in (
        (refused.value, ("invalid_hyperparameters", message, "hyperparameters")),
        (InvalidConfig(["memory: 9 GB", "or use --force"]),
         ("invalid_hyperparameters", "memory: 9 GB", "hyperparameters")),
        (InvalidData("these are pairs", hint="Look at them. Use --method dpo."),
         ("invalid_training_file", "these are pairs. Look at them.", "training_file")),
    ):  # fmt: skip
        assert _told(registry, home, job, error) == told


def made(registry: Registry, base: Base, **hyperparameters: Any) -> Job:
    rows = "".join(f"{json.dumps(row)}\n" for row in chats(40)).encode()
    file = registry.files.add(io.BytesIO(rows), "train.jsonl", namespaces=None)
    wanted = JobWanted(
        model="tiny",
        base=base,
        method="supervised",
        training_file=file.id,
        validation_file=None,
        adapter="colours",
        namespace=None,
        suffix=None,
        continue_from=None,
        hyperparameters=hyperparameters,
        seed=0,
        metadata=None,
    )
    return registry.jobs.create(wanted)


def checkpoints_of(registry: Registry, run: str) -> int:
    events = registry.ledger.events(run)
    return max((e.data["step"] for e in events if e.kind == "checkpoint"), default=0)


class Elsewhere(threading.Thread):
    """Pauses or cancels a job from another thread once its training has come so far."""

    def __init__(self, home: Home, job: str, what: str, *, after: int) -> None:
        super().__init__()
        self._asked = (home, job, what, after)

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *exc: object) -> None:
        self.join()

    def run(self) -> None:
        home, job, what, after = self._asked
        with Registry.open(home) as registry:
            while True:
                registry.queue.find_run(registry.jobs.get(job))
                run = registry.jobs.get(job).run
                if run is not None and checkpoints_of(registry, run) > after:
                    break
                time.sleep(0.05)
            getattr(registry.jobs, what)(job)


# -- without any training --------------------------------------------------------------------------


@pytest.fixture
async def idle(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    """A gateway that starts no worker: jobs stay as they are."""
    async with openai(gateway) as client:
        yield client


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"training_file": "file-none"}, "training_file", "no such file"),
    ({"validation_file": "file-none"}, "validation_file", "no such file"),
    ({"model": "gpt-4o-mini"}, "model", "there is no adapter"),
    ({"model": "auto"}, "model", "not served yet"),
    ({"suffix": "no good"}, "suffix", "can't name an adapter"),
    ({"suffix": "tiny"}, "suffix", "name of a base"),
    ({"seed": -1}, "seed", "greater than or equal"),
    ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "'auto' or a whole"),
    ({"hyperparameters": {"colour": 1}}, "hyperparameters.colour", "Extra inputs"),
    ({"integrations": [{"type": "wandb"}]}, "integrations", "no integrations"),
    ({"method": {"type": "reinforcement"}}, "method.type", "no graders"),
    ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised", "'dpo'"),
    ({"metadata": {"k": "v" * 513}}, "metadata.k", "at most 512"),
    (
        {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 11}}}},
        "method.dpo.hyperparameters.beta",
        "10 at most",
    ),
]


async def test_what_a_job_can_not_be_is_refused_by_its_field(idle: AsyncOpenAI) -> None:
    """Before anything is begun, in OpenAI's error shape."""
    training = await upload(idle, chats(2))
    for changes, param, words in REFUSED:
        asked: dict[str, Any] = {"model": "tiny", "training_file": training, **changes}
        with pytest.raises(APIStatusError, match=words) as refused:
            await idle.fine_tuning.jobs.create(**asked)
        assert refused.value.status_code in (400, 404)
        assert refused.value.type == "invalid_request_error"
        assert refused.value.param == param
    assert (await idle.fine_tuning.jobs.list()).data == []


async def test_lists_of_jobs_and_events_come_in_pages(idle: AsyncOpenAI) -> None:
    """Newest first; by metadata too, in the client's spelling."""
    training = await upload(idle, chats(2))
    jobs = idle.fine_tuning.jobs
    made = [
        (await jobs.create(model="tiny", training_file=training, metadata=metadata)).id
        for metadata in ({"team": "a"}, None, {"team": "b", "n": ""}, {"team": "a", "n": "2"})
    ]
    assert [job.id async for job in jobs.list(limit=3)] == made[::-1]
    assert (await jobs.list(limit=4)).has_more is False
    assert [job.id async for job in jobs.list(metadata={"team": "a"})] == [made[3], made[0]]
    assert [job.id async for job in jobs.list(metadata={"n": ""})] == [made[2]]
    alone = jobs.list(extra_query={"metadata": "null"})
    assert [job.id async for job in alone] == [made[1]]
    with pytest.raises(NotFoundError):
        await jobs.list(after="ftjob-none")
    events = await jobs.list_events(made[0], limit=1)
    assert (events.has_more, len(events.data)) == (True, 1)
    rest = await jobs.list_events(made[0], after=events.data[0].id)
    assert (rest.has_more, len(rest.data)) == (False, 1)
    other = await jobs.list_events(made[1])
    with pytest.raises(BadRequestError) as refused:
        await jobs.list_events(made[0], after=other.data[0].id)
    assert refused.value.param == "after"
    assert (await jobs.checkpoints.list(made[0])).data == []
    with pytest.raises(BadRequestError, match="used by a job"):
        await idle.files.delete(training)


class Lossy(httpx2.AsyncHTTPTransport):
    """The answer to the first request that makes a job gets lost on its way."""

    lost = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        answer = await super().handle_async_request(request)
        if request.url.path.endswith("/jobs") and request.method == "POST" and not self.lost:
            self.lost += 1
            await answer.aclose()
            raise httpx2.ReadTimeout("lost")
        return answer


async def test_a_job_whose_answer_was_lost_is_not_made_twice(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client asks again by itself, and is told of the job that it has made. Asked for anew, or
    with anything else, it is another job."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    transport = Lossy()
    async with AsyncOpenAI(
        base_url=f"{gateway.url}/v1",
        api_key="none",
        max_retries=1,
        http_client=httpx2.AsyncClient(transport=transport),
    ) as client:
        jobs = client.fine_tuning.jobs
        asked: dict[str, Any] = {"model": "tiny", "training_file": await upload(client, chats(2))}
        first = await jobs.create(**asked)
        assert transport.lost == 1
        assert [job.id async for job in jobs.list()] == [first.id]
        again: Any = {"extra_headers": {"x-stainless-retry-count": "1"}}
        assert (await jobs.create(**asked, **again)).id == first.id
        anew = [await jobs.create(**asked)]
        for other in ({"seed": first.seed ^ 1}, {"suffix": "x"}, {"metadata": {"a": "b"}}):
            anew.append(await jobs.create(**asked, **other, **again))
        assert len({first.id, *(job.id for job in anew)}) == 5
        with Registry.open(gateway.home) as registry:
            registry._db.execute("UPDATE jobs SET created_at = '2026-01-01T00:00:00.000Z'")
        assert (await jobs.create(**asked, **again)).id not in {first.id, anew[0].id}


async def test_a_file_that_expires_while_its_job_waits_is_there_for_it(
    idle: AsyncOpenAI, gateway: Gateway
) -> None:
    """Once no job that is not over needs it, it is gone."""
    training = await upload(idle, chats(20))
    job = await idle.fine_tuning.jobs.create(model="tiny", training_file=training)
    with Registry.open(gateway.home) as registry:
        registry._db.execute("UPDATE files SET expires_at = '2026-01-01T00:00:00.000Z'")
        await upload(idle, chats(2))
        assert _config(registry, registry.jobs.get(job.id)).data[0].is_file()
    assert (await idle.files.retrieve(training)).id == training
    await idle.fine_tuning.jobs.cancel(job.id)
    with pytest.raises(NotFoundError):
        await idle.files.retrieve(training)


async def test_a_key_of_a_namespace_has_jobs_of_its_own(gateway: Gateway, keys: Keys) -> None:
    """It trains into its namespaces, and others' jobs are not there for it: the very words for
    what never was. A key without `admin` is refused before anything is looked up."""
    keys("whole", "admin"), keys("acme", "admin", "acme"), keys("beta", "admin", "beta")
    keys("both", "admin", "acme beta"), keys("app", "infer feedback", "acme")
    whole, acme, beta, both, app = (openai(gateway, made.secret) for made in keys.made)
    theirs = await upload(beta, chats(2))
    mine = await upload(acme, chats(2))
    job = await beta.fine_tuning.jobs.create(model="tiny", training_file=theirs, suffix="x")
    own = await acme.fine_tuning.jobs.create(model="tiny", training_file=mine)
    assert (job.organization_id, own.organization_id) == ("beta", "acme")
    with Registry.open(gateway.home) as registry:
        assert registry.jobs.get(job.id).adapter == "beta/x"
        assert registry.jobs.get(job.id).created_by == "beta"
        assert registry.jobs.get(own.id).adapter == f"acme/ft-{own.id[6:14]}"

    async def seen(client: AsyncOpenAI) -> list[str]:
        return [found.id async for found in client.fine_tuning.jobs.list()]

    assert await seen(acme) == [own.id]
    assert await seen(beta) == [job.id]
    assert await seen(whole) == await seen(both) == [own.id, job.id]
    jobs = acme.fine_tuning.jobs
    for asked in (
        jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume, jobs.list_events, jobs.checkpoints.list
    ):  # fmt: skip
        words = []
        for name in (job.id, "ftjob-" + "0" * 24):
            with pytest.raises(NotFoundError) as refused:
                await asked(name)
            words.append(json.dumps(refused.value.body).replace(name, "NAME"))
        assert words[0] == words[1]
    for changes, param in (
        ({"training_file": theirs}, "training_file"),
        ({"suffix": "beta/x"}, "suffix"),
    ):
        with pytest.raises(BadRequestError) as outside:
            await jobs.create(**{"model": "tiny", "training_file": mine, **changes})  # type: ignore[arg-type]
        assert outside.value.param == param
    with pytest.raises(BadRequestError, match="acme/name"):
        await both.fine_tuning.jobs.create(model="tiny", training_file=mine)
    for call in (
        app.fine_tuning.jobs.list(),
        app.fine_tuning.jobs.retrieve(own.id),
        app.fine_tuning.jobs.create(model="tiny", training_file=mine),
    ):
        with pytest.raises(APIStatusError) as forbidden:
            await call  # type: ignore[misc]
        assert forbidden.value.code == "insufficient_scope"
    for one in (whole, acme, beta, both, app):
        await one.close()


async def test_what_is_not_here_is_said_in_words(idle: AsyncOpenAI) -> None:
    """Graders, and permissions of checkpoints."""
    with pytest.raises(NotFoundError, match="no graders"):
        await idle.fine_tuning.alpha.graders.run(grader={}, model_sample="x")  # type: ignore[typeddict-item]
    with pytest.raises(NotFoundError, match="API keys"):
        await idle.fine_tuning.checkpoints.permissions.list("ft:tiny:Loom:x:aaaaaaaa")
