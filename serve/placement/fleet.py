"""Several engines as one: which of them a request goes to, and its place there until it is done.

- Only engines that are up, and that are not left out for failing (`serve.placement.breaker`).
- A version goes where it is loaded. Where that engine is busy and another is not, it spills over,
  and is loaded there too.
- Loaded nowhere, it goes to the least busy engine; among equals to the one that its name hashes to,
  so that each engine gets its own share of the adapters, and the same one after a restart.
- An engine that loads lazily tells nothing of what it holds: there the hash decides, unless that
  engine has more than a quarter over its share of what runs (rendezvous hashing, Thaler and
  Ravishankar 1998, with bounded loads, Mirrokni, Thorup and Zadimoghaddam 2016).

Absent on purpose: trying again (`serve.requests.dispatch`), starting what died (the engines do).
"""

import asyncio
import contextlib
import hashlib
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from hub.errors import EngineSilent, EngineStartFailed, EngineUnavailable
from hub.records import Version
from serve.engines.base import Engine, EngineState
from serve.engines.spec import Loading
from serve.placement.breaker import Breaker

_log = logging.getLogger(__name__)

# An engine this busy shares an adapter with one that has less than half as much to do: up to here
# a batch grows at next to no cost, and every copy takes a slot from another adapter.
_SPILLS_AT = 16
_OVER_ITS_SHARE = 1.25
# Those that answer about as soon as the first have their share of the adapters from the beginning.
_TOGETHER_S = 1.0
# How often those look again who wait for an engine that is left out: at least, at most.
_LOOK_S = (0.05, 0.5)


class Held(Protocol):
    """The right to use a version under the hub's name for it."""

    @property
    def engine_name(self) -> str: ...

    def release(self) -> None: ...


class Adapters(Protocol):
    """What an engine holds: `serve.placement.residency`, or `serve.placement.lazy_residency`."""

    async def acquire(self, version: Version) -> Held: ...

    def holds(self, version: Version) -> bool: ...

    def forget(self, version: Version) -> None: ...

    async def close(self) -> None: ...


@dataclass(eq=False)
class Member:
    """One engine; `running` counts the requests that are there or wait there for their adapter."""

    engine: Engine
    adapters: Adapters
    breaker: Breaker = field(default_factory=Breaker)
    running: int = 0

    @property
    def is_up(self) -> bool:
        return self.engine.state is EngineState.READY

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1


class Fleet:
    """`members` in the order in which they were given; there is at least one."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = tuple(members)
        self._starting: list[asyncio.Task[None]] = []

    @property
    def state(self) -> EngineState:
        """Ready when one of them is."""
        states = {member.engine.state for member in self.members}
        order = (EngineState.READY, EngineState.STARTING, EngineState.RESTARTING)
        return next((state for state in order if state in states), EngineState.STOPPED)

    # -- their lives ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns when every engine of ours is up, and at least one in all; others may come later.

        Raises:
            EngineStartFailed: when one of ours does not come up, one serves another base, or none
                answers.
        """
        waiting = {
            asyncio.create_task(member.engine.start(), name=f"start {member.engine.name}"): member
            for member in self.members
        }
        silent: list[tuple[Member, EngineSilent]] = []
        try:
            enough = False
            while waiting and not enough:
                enough = self._enough(waiting.values())
                done, _ = await asyncio.wait(
                    waiting,
                    timeout=_TOGETHER_S if enough else None,
                    return_when=asyncio.ALL_COMPLETED if enough else asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    member = waiting.pop(task)
                    try:
                        task.result()
                    except EngineSilent as error:
                        silent.append((member, error))
            if not any(member.is_up for member in self.members):
                raise silent[0][1]
        except BaseException:  # also a shutdown: what still starts is given up
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            raise
        self._starting = [
            asyncio.create_task(self._keep_starting(member, task))
            for task, member in waiting.items()
        ]
        self._starting += [
            asyncio.create_task(self._keep_starting(member, None)) for member, _ in silent
        ]

    def _enough(self, waiting: Collection[Member]) -> bool:
        ours = [member for member in self.members if member.engine.is_ours]
        return (
            all(member.is_up for member in ours)
            and any(member.is_up for member in self.members)
            and not any(member.engine.is_ours for member in waiting)
        )

    async def _keep_starting(self, member: Member, first: "asyncio.Task[None] | None") -> None:
        """An engine elsewhere is looked for as long as the gateway runs."""
        while True:
            try:
                await (first or member.engine.start())
            except EngineSilent as error:
                _log.warning("%s; looking on", error.message)
            except EngineStartFailed as error:
                # It serves another base. Nothing is sent there, and whoever runs it may mend it.
                _log.error("%s", error)
                await asyncio.sleep(10)
            else:
                _log.warning("%s is up", member.engine.name)
                return
            first = None

    async def stop(self) -> None:
        """Every engine is let go of, ours are dead when this returns; all at once."""
        for task in self._starting:
            task.cancel()
        await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(member.engine.stop() for member in self.members))

    async def close(self) -> None:
        for member in self.members:
            await member.adapters.close()

    # -- choosing ---------------------------------------------------------------------------------

    async def choose(self, version: Version | None, *, avoid: Collection[Member] = ()) -> Member:
        """Where a request should go, waiting until there is such a place; the caller bounds that.

        `avoid` holds where it has just failed: only if there is no other is it tried there again.

        Raises:
            EngineUnavailable: when all engines have been stopped.
        """
        if len(self.members) == 1 and (only := self.members[0]).is_up:
            # The usual case, on every request's way.
            only.breaker.seen(only.engine.generation)
            if only.breaker.is_closed:
                return only
        while True:
            up = [member for member in self.members if member.is_up]
            for member in up:
                member.breaker.seen(member.engine.generation)
            closed = [member for member in up if member.breaker.is_closed]
            ripe = [member for member in up if member.breaker.may_try]
            trial = [member for member in ripe if member not in avoid]
            candidates = [m for m in closed if m not in avoid] or trial or closed
            if candidates and not trial:
                return self._best(version, candidates)
            if trial := trial or ripe:
                # One request of many finds out whether it works again.
                trial[0].breaker.trying()
                return trial[0]
            await self._until_another(up)

    def _best(self, version: Version | None, candidates: Sequence[Member]) -> Member:
        if len(candidates) == 1:
            return candidates[0]
        least = min(candidates, key=lambda member: member.running)
        if version is None:
            return least
        holders = [member for member in candidates if member.adapters.holds(version)]
        if holders:
            favourite = min(holders, key=lambda member: member.running)
            if favourite.running < _SPILLS_AT or least.running * 2 >= favourite.running:
                return favourite
        by_hash = sorted(candidates, key=lambda m: _weight(m, version), reverse=True)
        explicit = [member for member in by_hash if member.engine.loads is Loading.EXPLICIT]
        picks = [min(explicit, key=lambda member: member.running)] if explicit else []
        lazy = [member for member in by_hash if member.engine.loads is Loading.LAZY]
        if lazy:
            share = (sum(member.running for member in lazy) + 1) / len(lazy)
            most = math.ceil(share * _OVER_ITS_SHARE)
            picks.append(next(member for member in lazy if member.running < most))
        return min(picks, key=lambda member: member.running)

    async def _until_another(self, up: Sequence[Member]) -> None:
        """Some engine comes up, or the pause of one that is up ends, or it is time to look again:
        meanwhile another may have come up, or all may have been stopped."""
        if up:
            pause = min(member.breaker.pause_s for member in up)
            await asyncio.sleep(min(max(_LOOK_S[0], pause), _LOOK_S[1]))
            return
        waits = [asyncio.create_task(member.engine.wait_ready()) for member in self.members]
        try:
            while True:
                done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                errors = [task.exception() for task in done]
                if any(error is None for error in errors):
                    return
                if not pending:
                    raise errors[0] or EngineUnavailable("no engine is up")
                waits = list(pending)
        finally:
            for task in waits:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, EngineUnavailable):
                    await task


def _weight(member: Member, version: Version) -> bytes:
    """Highest random weight: each engine's own, for each version."""
    text = f"{member.engine.name} {version.engine_name}"
    return hashlib.blake2b(text.encode(), digest_size=8).digest()
