"""Keeps loaded what is worth it: pins, what was loaded before a restart, and what was asked most.

- Pins are loaded first, on the engine that holds least, and again wherever the engine that had one
  is gone; they may take the room of anything idle. References are followed within half a second.
- An engine that comes back gets what it had, the last used first.
- At start, the references that the log says are asked most are loaded as what they mean now.

All but the pins goes one by one and only into room that is free, with one place to spare: nothing
waits for it, and nothing is unloaded for it. What is not wanted soon goes first when room is short.

Absent on purpose: engines that load lazily, which nobody can tell what to hold; guessing what will
be asked.
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence

from hub.errors import Conflict, EngineUnavailable, HubError, UsageError
from hub.records import Version
from serve.engines.base import Engine, EngineState
from serve.journal import Journal
from serve.placement.fleet import Fleet
from serve.placement.pins import Pins, Resolve
from serve.placement.residency import Residency

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
# A pin that can't be loaded now (damaged files, every slot in use) is tried again after this.
_TRY_AGAIN_S = 30.0
_PATIENCE_S = 60.0
# Interactions of the log that say what is asked most: few enough to be read in milliseconds.
_LOOKS_BACK = 2000


def make_warmth(fleet: Fleet, resolve: Resolve, references: Sequence[str]) -> "Warmth":
    """With the pins that the command line asks for. Raises as `Pins`; UsageError where no engine
    is told what to load."""
    held = [member.adapters for member in fleet.members if isinstance(member.adapters, Residency)]
    if references and not held:
        raise UsageError("--pin is for engines that are told what to load, and these load lazily")
    most = min((residency.capacity for residency in held), default=1) - 1
    return Warmth(fleet, Pins(resolve, most, references, where="--pin"), resolve)


class Warmth:
    """`start` it when the fleet is up; `close` it before the fleet."""

    def __init__(self, fleet: Fleet, pins: Pins, resolve: Resolve) -> None:
        self.fleet = fleet
        self.pins = pins
        self._resolve = resolve
        self._tasks: list[asyncio.Task[None]] = []
        self._holding = asyncio.Lock()
        self._not_before: dict[str, float] = {}

    def start(self, journal: Journal) -> None:
        self._apply()
        works = [self._keep(engine, residency) for engine, residency in self.explicit()]
        works += [self._follow(), self._begin_warm(journal)] if works else []
        self._tasks = [asyncio.create_task(work, name="warmth") for work in works]
        for task in self._tasks:
            task.add_done_callback(_tell)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def explicit(self) -> Iterator[tuple[Engine, Residency]]:
        """The engines that are told what to load."""
        for member in self.fleet.members:
            if isinstance(member.adapters, Residency):
                yield member.engine, member.adapters

    # -- when asked to ----------------------------------------------------------------------------

    async def load(self, version: Version) -> list[str]:
        """Have it loaded on some engine; the names of those that have it then.

        Raises:
            Conflict: when all engines load lazily.
            EngineUnavailable: when none of the others is up.
            HubError: as `Residency.acquire`.
        """
        self._require_explicit()
        homes = [residency for _, residency in self._up() if residency.holds(version)]
        for home in homes or [self._home()]:
            await home.load(version)
        return self.holders(version)

    async def unload(self, version: Version) -> list[str]:
        """Have it unloaded wherever it is, as soon as its requests there are done; where it was.

        Raises:
            Conflict: when it is pinned, or all engines load lazily.
            EngineError: when an engine did not do it.
        """
        self._require_explicit()
        if references := self.pins.of(version):
            raise Conflict(
                f"{version} is pinned as {' and '.join(references)}",
                hint=f"`hub residency unpin {references[0]}` comes first.",
            )
        up = list(self._up())
        done = await asyncio.gather(*(residency.unload(version) for _, residency in up))
        return [engine.name for (engine, _), was_there in zip(up, done, strict=True) if was_there]

    async def pin(self, reference: str) -> tuple[Version, list[str]]:
        """Have it loaded and kept. Raises as `Pins`, and as `load`: then it is pinned no more than
        before."""
        self._require_explicit()
        was_pinned = reference in self.pins
        version = self.pins.add(reference)
        self._apply()
        try:
            return version, await self.load(version)
        except BaseException:  # whatever it is, what can't be loaded stays unpinned
            if not was_pinned and reference in self.pins:
                self.unpin(reference)
            raise

    def unpin(self, reference: str) -> Version | None:
        """It stays loaded until its place is wanted. Raises NotFound."""
        pin = self.pins.remove(reference)
        self._apply()
        return pin.version

    def holders(self, version: Version) -> list[str]:
        """The names of the engines that have it, or will in a moment."""
        return [engine.name for engine, residency in self._up() if residency.holds(version)]

    # -- by itself --------------------------------------------------------------------------------

    async def _follow(self) -> None:
        while True:
            if self.pins.look():
                self._apply()
            await self._hold_pins()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _keep(self, engine: Engine, residency: Residency) -> None:
        """At the beginning of each of an engine's lives, reconcile and load again what it had."""
        generation = 0
        while True:
            try:
                present = await engine.wait_ready(after=generation)
                await residency.settle()
                await self._hold_pins()
                for version in list(residency.before):
                    meant = self._means(str(version))
                    if meant is not None and meant.engine_name == version.engine_name:
                        await residency.preload(version)
                generation = present
            except EngineUnavailable:
                if engine.state is EngineState.STOPPED:
                    return
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _begin_warm(self, journal: Journal) -> None:
        """What was asked most, as far as there is room."""
        await self._hold_pins()
        # Several references may mean one version by now, and some none.
        limit = 4 * sum(residency.capacity for _, residency in self.explicit())
        try:
            for reference in await journal.ask(
                lambda log: log.most_asked(among=_LOOKS_BACK, limit=limit)
            ):
                version = self._means(reference)
                if version is not None and not self._is_held(version):
                    await self._home().preload(version)
        except HubError as error:
            # Requests load what they need; this would only have been sooner.
            _log.warning("no adapters are loaded ahead: %s", error)

    async def _hold_pins(self) -> None:
        """One after the other, so that each goes where the fewest are by then."""
        async with self._holding:
            for version in self.pins.versions():
                not_before = self._not_before.get(version.engine_name, 0.0)
                if not self._is_held(version) and any(self._up()) and time.monotonic() > not_before:
                    await self._hold(version)

    async def _hold(self, version: Version) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                await self._home().load(version)
        except EngineUnavailable:
            return  # it is gone again; the next look finds another
        except (HubError, TimeoutError) as error:
            _log.warning("%s is pinned and can't be loaded now: %s", version, error or "no room")
            self._not_before[version.engine_name] = time.monotonic() + _TRY_AGAIN_S

    def _apply(self) -> None:
        versions = self.pins.versions()
        self._not_before.clear()
        for _, residency in self.explicit():
            residency.pin(versions)

    # -- where ------------------------------------------------------------------------------------

    def _require_explicit(self) -> None:
        if not any(self.explicit()):
            raise Conflict("the engines here load lazily: nobody can tell them what to hold")

    def _means(self, reference: str) -> Version | None:
        """The version that a reference means now; None for the base, and where it means nothing."""
        try:
            return self._resolve(reference).version
        except HubError:
            return None

    def _up(self) -> Iterator[tuple[Engine, Residency]]:
        return ((e, r) for e, r in self.explicit() if e.state is EngineState.READY)

    def _is_held(self, version: Version) -> bool:
        return any(residency.holds(version) for _, residency in self._up())

    def _home(self) -> Residency:
        """Of the engines that are up the one with the fewest. Raises EngineUnavailable."""
        up = [residency for _, residency in self._up()]
        if not up:
            raise EngineUnavailable(
                "no engine that is told what to load is up", hint="Try again in a moment."
            )
        return min(up, key=lambda residency: len(residency.residents()))


def _tell(task: "asyncio.Task[None]") -> None:
    """Nobody waits for these tasks: what ends one unforeseen is told here."""
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("adapters are no longer kept loaded", exc_info=error)
