"""Which versions are loaded in the engine: loaded once, leased while used, bounded, LRU.

- Any number of simultaneous first requests for a version make one load, and a load keeps nobody
  waiting but those who want that version.
- Files are checked against their hashes in a thread before every load; what fails never gets to the
  engine.
- A lease protects from eviction. When every slot is leased, a further version waits for one to be
  free; the caller bounds the wait.
- The count stays one below the engine's own limit, so that the engine never evicts by itself: it
  would read the folder again in the middle of somebody's request.
- Nothing is believed of an engine after its restart: a new generation starts empty, and loads
  that were under way for an old one count as failed.
- A version's folder is let go of when the engine has unloaded it or is gone. An engine that did not
  answer may still have it, so that waits for its next life.

Absent on purpose: pins, more than one engine, unloading on a timer.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from hub.errors import EngineError, EngineRefused, EngineUnavailable
from hub.records import Version
from serve.engines.base import Engine

_log = logging.getLogger(__name__)

Servable = Callable[[Version], Path]
LetGo = Callable[[Version], None]


class SlotState(StrEnum):
    CHECKING = "checking"
    WAITING = "waiting"
    LOADING = "loading"
    LOADED = "loaded"
    LEAVING = "leaving"


_IN_ENGINE = frozenset({SlotState.LOADING, SlotState.LOADED, SlotState.LEAVING})


@dataclass(eq=False)
class _Slot:
    version: Version
    generation: int
    state: SlotState = SlotState.CHECKING
    leases: int = 0
    used: int = 0
    holds_folder: bool = False
    work: "asyncio.Task[None] | None" = field(default=None, repr=False)


@dataclass(frozen=True)
class Resident:
    """One line of `GET /hub/residency`."""

    version: str
    state: str
    leases: int


class Residency:
    """`servable` gives a version's folder, in a thread; each that it gave, `let_go` gets once."""

    def __init__(
        self,
        engine: Engine,
        servable: Servable,
        *,
        max_cpu_loras: int,
        let_go: LetGo = lambda version: None,
    ) -> None:
        self.capacity = max_cpu_loras - 1
        self.loads = 0
        self.evictions = 0
        self._engine = engine
        self._servable = servable
        self._let_go = let_go
        # Out of their slots, but perhaps still in the engine.
        self._lingering: list[_Slot] = []
        self._slots: dict[str, _Slot] = {}
        self._generation = 0
        self._clock = 0
        self._room = asyncio.Event()

    def residents(self) -> list[Resident]:
        """By name: their order of use would tell which side of a blind comparison is which."""
        slots = sorted(
            self._slots.values(), key=lambda slot: (slot.version.adapter, slot.version.number)
        )
        return [Resident(str(slot.version), slot.state.value, slot.leases) for slot in slots]

    async def acquire(self, version: Version) -> "Lease":
        """A lease on the loaded version; release it.

        Raises:
            IntegrityError: when its files are not what was published.
            EngineRefused: when the engine will not load it.
            EngineUnavailable: when the engine went away meanwhile; trying again is sound.
        """
        while True:
            slot = self._slot(version, await self._engine.wait_ready())
            slot.leases += 1
            try:
                assert slot.work is not None
                # A caller that is cancelled leaves the load to the others who wait for it.
                await asyncio.shield(slot.work)
            except BaseException:  # also a cancelled caller: its lease would pin the slot for ever
                self._release(slot)
                raise
            if slot.state is SlotState.LOADED and self._slots.get(version.engine_name) is slot:
                return Lease(self, slot)
            # It was on its way out, or of an earlier life of the engine: begin again.
            self._release(slot)

    def forget(self, version: Version) -> None:
        """The engine turned out not to have it after all."""
        slot = self._slots.pop(version.engine_name, None)
        if slot is not None and (slot.work is None or slot.work.done()):
            self._put_back(slot)
        elif slot is not None:
            self._lingering.append(slot)
        self._room.set()

    async def close(self) -> None:
        """Drop loads under way; the engine, which has been stopped, is let go of as it is."""
        works = [slot.work for slot in self._slots.values() if slot.work]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)
        self._put_all_back()

    # -- slots ------------------------------------------------------------------------------------

    def _slot(self, version: Version, generation: int) -> _Slot:
        if generation != self._generation:
            self._generation = generation
            self._put_all_back()
            self._room.set()
        slot = self._slots.get(version.engine_name)
        if slot is None:
            slot = _Slot(version, generation)
            self._slots[version.engine_name] = slot
            slot.work = asyncio.create_task(self._load(slot), name=f"load {version}")
        self._clock += 1
        slot.used = self._clock
        return slot

    def _release(self, slot: _Slot) -> None:
        slot.leases -= 1
        if not slot.leases:
            self._room.set()

    async def _load(self, slot: _Slot) -> None:
        name = slot.version.engine_name
        try:
            folder = await asyncio.to_thread(self._servable, slot.version)
            slot.holds_folder = True
            await self._make_room(slot)
            slot.state = SlotState.LOADING
            await self._engine.load(name, folder)
            if self._engine.generation != slot.generation:
                raise EngineUnavailable("the engine restarted during the load")
        except BaseException as error:
            if self._slots.get(name) is slot:
                del self._slots[name]
            self._leave(slot, may_be_inside=not isinstance(error, EngineRefused))
            self._room.set()
            raise
        slot.state = SlotState.LOADED
        self.loads += 1

    async def _make_room(self, slot: _Slot) -> None:
        """Return with fewer than `capacity` in the engine, and no await after having seen so."""
        slot.state = SlotState.WAITING
        while slot.generation == self._generation:
            inside = [other for other in self._slots.values() if other.state in _IN_ENGINE]
            if len(inside) < self.capacity:
                return
            idle = [s for s in inside if s.state is SlotState.LOADED and not s.leases]
            if idle:
                await self._evict(min(idle, key=lambda other: other.used))
            else:
                self._room.clear()
                await self._room.wait()
        raise EngineUnavailable("the engine restarted before the load")

    async def _evict(self, slot: _Slot) -> None:
        slot.state = SlotState.LEAVING
        # Whoever asks for it now waits for this to end and loads it again.
        slot.work = asyncio.create_task(self._unload(slot), name=f"unload {slot.version}")
        await asyncio.shield(slot.work)

    async def _unload(self, slot: _Slot) -> None:
        name = slot.version.engine_name
        try:
            await self._engine.unload(name)
            self.evictions += 1
            self._put_back(slot)
        except EngineError as error:
            # Gone with the engine, or kept by it against its word: its own LRU takes care of that.
            _log.warning("unloading %s: %s", slot.version, error)
            self._leave(slot, may_be_inside=True)
        finally:
            if self._slots.get(name) is slot:
                del self._slots[name]
            self._room.set()

    # -- folders ----------------------------------------------------------------------------------

    def _put_back(self, slot: _Slot) -> None:
        if slot.holds_folder:
            slot.holds_folder = False
            self._let_go(slot.version)

    def _leave(self, slot: _Slot, *, may_be_inside: bool) -> None:
        """A slot ends otherwise than by unloading."""
        in_engine = may_be_inside and slot.state in _IN_ENGINE
        if in_engine and slot.generation == self._generation:
            self._lingering.append(slot)
        else:
            self._put_back(slot)

    def _put_all_back(self) -> None:
        """An engine is gone, and all that it had with it; loads under way see to their own."""
        idle = [s for s in self._slots.values() if s.work is None or s.work.done()]
        for slot in (*idle, *self._lingering):
            self._put_back(slot)
        self._slots.clear()
        self._lingering.clear()


class Lease:
    """The right to use a version under `engine_name` until released; releasing twice is one."""

    def __init__(self, residency: Residency, slot: _Slot) -> None:
        self.engine_name = slot.version.engine_name
        self._residency = residency
        self._slot: _Slot | None = slot

    def release(self) -> None:
        slot, self._slot = self._slot, None
        if slot is not None:
            self._residency._release(slot)
