"""A run's news in the registry: what is written, how often, and what of it may be lost."""

import pytest

from hub.database import open_database, transaction
from hub.errors import RunStopped
from hub.home import Home
from hub.ledger import Ledger
from hub.migrations import registry_migrations
from hub.records import Base, Run
from hub.registry import Registry
from hub.sqlite import Database
from train.events import Recorder
from train.progress import Progress, Wanted


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def ignore(progress: Progress) -> None:
    """Report nothing."""


def begun(registry: Registry, base: Base) -> Run:
    dataset = registry.ledger.add_dataset(
        digest="d" * 64, name="set", source="set.jsonl", format="messages", rows=8, lint={}
    )
    return registry.ledger.start_run("support", "sft", base, dataset, {})


def step(number: int, of: int = 10**6) -> Progress:
    return Progress("training", step=number, total=of, loss=1.0, tokens_per_second=99.96)


def test_a_long_run_writes_few_steps() -> None:
    """One event a second at first, then ever fewer: under 2,500 of a run of eleven hours, and the
    last step is one of them."""
    db, clock = Database(memory=True), Clock()
    registry_migrations.apply(db)
    ledger = Ledger(db)
    recorder = Recorder(ledger, "r", ignore, clock=clock)
    for number in range(1, 1201):
        clock.now += 0.1
        recorder(step(number))
    at_first = len(ledger.events("r"))
    for number in range(1201, 9121):
        clock.now += 5
        recorder(step(number, of=9120))
    events = [event for event in ledger.events("r") if event.kind == "step"]
    assert 100 <= at_first <= 122
    assert 1000 < len(events) < 2500
    assert events[-1].data["step"] == 9120
    assert events[0].data == {
        "step": 1, "of": 1_000_000, "epoch": 0.0, "loss": 1.0, "learning_rate": None,
        "tokens_per_s": 100.0,
    }  # fmt: skip


def test_a_busy_registry_loses_steps_and_nothing_else(
    registry: Registry, home: Home, base: Base
) -> None:
    """While another program holds the registry no call fails; a step is dropped, an evaluation is
    written with the next news."""
    run, clock = begun(registry, base), Clock()
    recorder = Recorder(registry.ledger, run.id, ignore, clock=clock)
    other = open_database(home.registry, registry_migrations)
    with transaction(other):
        recorder(step(1))
        clock.now += 2
        recorder(Progress("training", step=2, total=9, validation_loss=0.5, what="evaluated"))
    other.close()
    clock.now += 2
    recorder(step(3))
    kinds = [(e.kind, e.data.get("step")) for e in registry.ledger.events(run.id)]
    assert kinds == [("started", None), ("evaluated", 2), ("step", 3)]


def test_what_is_wanted_is_read_from_the_registry(
    registry: Registry, home: Home, base: Base
) -> None:
    """Asked for by another connection it is returned within a second of training, and ends a run
    that is not training at once."""
    run, clock = begun(registry, base), Clock()
    recorder = Recorder(registry.ledger, run.id, ignore, clock=clock)
    assert recorder(step(1)) is None
    other = open_database(home.registry, registry_migrations)
    Ledger(other).want(run.id, "pause")
    other.close()
    clock.now += 0.5
    assert recorder(step(2)) is None
    clock.now += 0.5
    assert recorder(step(3)) == "pause"
    with pytest.raises(RunStopped) as stop:
        recorder(Progress("checking"))
    assert (stop.value.stopped, stop.value.exit_code) == ("paused", 130)
    assert registry.ledger.stop_run(run.id, "paused", step=3).status == "paused"
    assert registry.ledger.wanted(run.id) is None
    assert registry.ledger.resume_run(run.id).status == "running"


def test_who_watches_may_want_it_too(registry: Registry, base: Base) -> None:
    """What the report returns (after Ctrl-C) is what the recorder returns."""

    def cancel(progress: Progress) -> Wanted | None:
        return "cancel" if progress.step == 2 else None

    recorder = Recorder(registry.ledger, begun(registry, base).id, cancel)
    assert [recorder(step(number)) for number in (1, 2, 3)] == [None, "cancel", "cancel"]
