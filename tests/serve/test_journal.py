"""The journal: committed means committed, and a failure stops nothing."""

import asyncio
import sqlite3
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace

import pytest

from hub.errors import HubError, UnknownInteraction
from hub.feedback.interactions import Interaction, InteractionLog, new_id
from hub.home import Home
from hub.registry import Registry
from serve.journal import Journal

ENTRY = Interaction(
    id="int_0",
    at="2026-01-01T00:00:00.000Z",
    endpoint="chat",
    requested="support",
    adapter="support@1",
    digest="d",
    request="{}",
    answer="Hello",
    response="{}",
    status="complete",
    latency_ms=1.0,
)


@pytest.fixture
def journal(home: Home, registry: Registry) -> Iterator[Journal]:
    journal = Journal.open(home)
    yield journal
    journal.close()


def _read(home: Home) -> list[str]:
    with InteractionLog.open(home) as log:
        return [entry.id for entry in log.newest(1000)]


async def test_record_returns_when_another_connection_can_read_it(
    home: Home, journal: Journal
) -> None:
    """200 at once, each visible as soon as its own `record` has returned."""

    async def one() -> None:
        entry = replace(ENTRY, id=new_id("int"))
        assert await journal.record(entry)
        connection = sqlite3.connect(home.interactions)
        found = connection.execute("SELECT 1 FROM interactions WHERE id = ?", [entry.id])
        assert found.fetchone()
        connection.close()

    await asyncio.gather(*(one() for _ in range(200)))


async def test_one_bad_record_takes_no_other_with_it(home: Home, journal: Journal) -> None:
    """A duplicate and a text that is not Unicode fail alone, are counted, and raise nothing."""
    bad = [ENTRY, replace(ENTRY, answer="twice"), replace(ENTRY, id="int_1", answer="\ud800")]
    good = [replace(ENTRY, id=f"int_{number}") for number in range(2, 20)]
    written = await asyncio.gather(*(journal.record(entry) for entry in [*bad, *good]))
    assert written.count(False) == journal.failures == 2
    assert len(_read(home)) == 19


async def test_a_log_that_cant_be_written_stops_nobody(home: Home, journal: Journal) -> None:
    """As on a full disk: `record` says False and goes on when it can again."""
    await journal.ask(lambda log: log._db.execute("PRAGMA query_only = ON"))
    assert await journal.record(ENTRY) is False
    assert journal.failures == 1
    with pytest.raises(HubError, match="the log can't be used"):
        await journal.ask(lambda log: log.add_comparison([], "a", "b"))
    await journal.ask(lambda log: log._db.execute("PRAGMA query_only = OFF"))
    assert await journal.record(ENTRY) is True


async def test_a_database_that_fails_is_tried_once_a_group(journal: Journal) -> None:
    """Locked or full, every record would wait its turn to fail again."""
    tries: list[int] = []

    def break_it(log: InteractionLog) -> list["Future[bool]"]:
        def record(interactions: Iterable[Interaction]) -> None:
            tries.append(len(list(interactions)))
            raise sqlite3.OperationalError("database is locked")

        log.record = record  # type: ignore[method-assign]
        # From the journal's own thread, so that they make one group.
        return [journal.submit(replace(ENTRY, id=f"int_{number}")) for number in range(5)]

    written = await journal.ask(break_it)
    assert [await asyncio.wrap_future(one) for one in written] == [False] * 5
    assert tries == [5]
    assert journal.failures == 5


async def test_questions_see_what_was_recorded_before_them(journal: Journal) -> None:
    """Also when nobody waited for the record; and their errors reach who asked."""
    journal.submit(ENTRY)
    assert (await journal.ask(lambda log: log.get("int_0"))).answer == "Hello"
    with pytest.raises(UnknownInteraction):
        await journal.ask(lambda log: log.get("int_nope"))
    with pytest.raises(ZeroDivisionError):
        await journal.ask(lambda log: 1 // 0)
    assert await journal.record(replace(ENTRY, id="int_1"))


async def test_closing_writes_what_waits(home: Home, registry: Registry) -> None:
    """Nothing submitted is lost."""
    journal = Journal.open(home)
    for number in range(50):
        journal.submit(replace(ENTRY, id=f"int_{number}"))
    await asyncio.to_thread(journal.close)
    assert len(_read(home)) == 50
