"""Which versions are loaded in one engine: loaded once, leased while used, bounded, with pins.

- Any number of simultaneous first requests for a version make one load, and a load keeps nobody
  waiting but those who want that version.
- Files are checked against their hashes in a thread before every load; what fails never gets to the
  engine.
- A lease protects from eviction, a pin does without one. What was asked to be unloaded takes no new
  requests and goes when its leases are back; whoever asks for it meanwhile waits and loads it anew.
- The count stays one below the engine's own limit (`max_cpu_loras`), so that the engine never
  evicts by itself: it would read the folder again in the middle of somebody's request. Adapters
  that somebody else loaded into it count too.
- Requests for more versions than can be loaded or run together wait in queues
  (`serve.placement.lease`); what goes for one that comes is the idle version that is worth least.
  The caller bounds the wait.
- Nothing is believed of an engine's new life: its own list says what it holds. What of that is ours
  is checked and kept, what was ours and is deleted or damaged is unloaded, and the rest left alone.

Absent on purpose: which versions are worth having (`serve.placement.pins`, `serve.warmth`), more
than one engine (`serve.placement.fleet`), unloading on a timer.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

from hub.errors import Conflict, EngineError, EngineRefused, EngineUnavailable, HubError
from hub.records import Version
from serve.engines.base import Engine, EngineState
from serve.placement.lease import Lease, Queues
from serve.placement.slots import LetGo, Resident, Slot, Slots, SlotState

_log = logging.getLogger(__name__)

Servable = Callable[[Version], Path]
Find = Callable[[Sequence[str]], dict[str, Version]]


class _NoRoom(EngineError):
    """What nobody asked for would have to take somebody's room."""


class Residency:
    """`servable` gives a version's folder, in a thread; each that it gave, `let_go` gets once.

    `find` tells, in a thread, which versions an engine knows by such names, deleted ones too, and
    leaves out names that are not ours. Without `max_loras` all that are loaded may run at once.
    """

    def __init__(
        self,
        engine: Engine,
        servable: Servable,
        *,
        max_cpu_loras: int,
        max_loras: int | None = None,
        let_go: LetGo = lambda version: None,
        find: Find = lambda engine_names: {},
    ) -> None:
        self.capacity = max_cpu_loras - 1
        self.loads = 0
        self.evictions = 0
        # What others have loaded, as the engine listed it when its life began.
        self.foreign: tuple[str, ...] = ()
        # What the life before this one had and was not unloaded since, the last used first.
        self.before: list[Version] = []
        self._engine = engine
        self._servable = servable
        self._find = find
        self._pinned: frozenset[str] = frozenset()
        batch = min(max_loras or self.capacity, self.capacity)
        self._queues = Queues.of(self._for_unpinned, batch)
        self.batch = self._queues.batch
        self._slots = Slots(let_go, self._look)
        self._settling: asyncio.Task[None] | None = None
        self._rechecking: asyncio.Task[None] | None = None
        self._room = asyncio.Event()

    # -- what is there ----------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """How many adapters the engine holds, those of others too."""
        return len(self._slots.inside()) + len(self.foreign)

    @property
    def waiting(self) -> int:
        """How many versions wait to be loaded, or until one of those in use may go."""
        return self._queues.waiting

    def residents(self) -> list[Resident]:
        """By name."""
        return self._slots.residents(self._pinned)

    def holds(self, version: Version) -> bool:
        """Whether it is loaded, or on its way."""
        slot = self._slots.get(version.engine_name)
        present = slot is not None and slot.generation == self._engine.generation
        return present and slot is not None and not slot.is_going

    def resident(self, text: str) -> Version | None:
        """The version that is there as `support@3`, also when it has been deleted since."""
        versions = (slot.version for slot in self._slots)
        return next((version for version in versions if str(version) == text), None)

    # -- using ------------------------------------------------------------------------------------

    async def acquire(self, version: Version) -> Lease:
        """A lease on the loaded version; release it.

        Raises:
            IntegrityError: when its files are not what was published.
            EngineRefused: when the engine will not load it.
            EngineUnavailable: when the engine went away meanwhile; trying again is sound.
        """
        lease = self._lease(version)
        try:
            while not await self._take(lease, version):
                # It was on its way out, or of an earlier life of the engine: begin again.
                lease.release()
        except BaseException:  # also a cancelled caller: its lease would pin the slot for ever
            lease.release()
            raise
        return lease

    async def load(self, version: Version) -> None:
        """Have it loaded, whatever idle version must go for it. Raises as `acquire`."""
        lease = self._lease(version)
        try:
            while not await self._take_loaded(lease, version):
                lease.release()
        finally:
            lease.release()

    async def preload(self, version: Version) -> bool:
        """Have it loaded if there is room and one more place for whoever comes next.

        Whether it is there now. What keeps it from being loaded is logged, and raised by the first
        request for it. Raises EngineUnavailable when the engine went away.
        """
        await self.settle()
        slot = self._slots.get(version.engine_name)
        if slot is None:
            if len(self._slots) >= self._most() - 1:
                return False
            slot = self._begin_load(version, unasked=True)
        assert slot.work is not None
        try:
            await asyncio.shield(slot.work)
        except HubError as error:
            _log.warning("%s is not loaded ahead: %s", version, error)
        return self._slots.is_usable(slot)

    async def unload(self, version: Version) -> bool:
        """Take no more requests for it, wait until its leases are back, and unload it.

        False when it was not there.

        Raises:
            Conflict: when it is pinned.
            EngineError: when the engine did not do it.
        """
        await self.settle()
        while (slot := self._slots.get(version.engine_name)) is not None:
            if slot.name in self._pinned:
                raise Conflict(f"{version} is pinned", hint="`hub residency unpin` comes first.")
            assert slot.work is not None
            if slot.state is SlotState.LOADED:
                slot.state = SlotState.DRAINING
                slot.work = _begin(self._drain(slot), f"drain {version}")
            going = slot.is_going
            await asyncio.wait({slot.work})
            # What an engine had is gone with it.
            if slot.fault is not None and self._engine.state is EngineState.READY:
                raise slot.fault
            if going:
                return True
        return False

    def pin(self, versions: Iterable[Version]) -> None:
        """These, and no others, are not evicted once they are loaded."""
        self._pinned = frozenset(version.engine_name for version in versions)
        self._look()

    def forget(self, version: Version) -> None:
        """The engine turned out not to have it after all; it is asked what else it forgot."""
        slot = self._slots.get(version.engine_name)
        # What is being loaded is newer than what was missed.
        if slot is not None and self._slots.is_usable(slot):
            self._slots.drop(slot)
        if self._rechecking is None or self._rechecking.done():
            self._rechecking = _begin(self._recheck(), "recheck")

    async def close(self) -> None:
        """Drop what is under way; the engine, which has been stopped, is let go of as it is."""
        works = [slot.work for slot in self._slots]
        under_way = [work for work in (*works, self._settling, self._rechecking) if work]
        for work in under_way:
            work.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        self._slots.clear()

    # -- leases -----------------------------------------------------------------------------------

    async def _take(self, lease: Lease, version: Version) -> bool:
        if not await self._take_loaded(lease, version):
            return False
        await lease.enter_batch()
        assert lease.slot is not None
        lease.slot.used_at = time.time()
        return self._slots.is_usable(lease.slot)

    async def _take_loaded(self, lease: Lease, version: Version) -> bool:
        name = version.engine_name
        generation = await self.settle()
        if not self.holds(version):
            await lease.enter_ahead()
        if not self._is_kept(name):
            await lease.enter_loadable()
        if generation != self._slots.generation or not (lease.is_ahead or self.holds(version)):
            return False
        slot = self._slots.get(name) or self._begin_load(version)
        assert slot.work is not None
        if slot.is_going:
            await asyncio.wait({slot.work})
            return False
        lease.take(slot)
        self._slots.touch(slot)
        # A caller that is cancelled leaves the load to the others who wait for it.
        await asyncio.shield(slot.work)
        return self._slots.is_usable(slot)

    def _lease(self, version: Version) -> Lease:
        return Lease(version.engine_name, self._queues, self._room.set)

    # -- loading and unloading --------------------------------------------------------------------

    def _begin_load(self, version: Version, *, unasked: bool = False) -> Slot:
        slot = self._slots.add(version, unasked=unasked)
        slot.work = _begin(self._load(slot), f"load {version}")
        return slot

    async def _load(self, slot: Slot) -> None:
        try:
            folder = await asyncio.to_thread(self._servable, slot.version)
            slot.holds_folder = True
            await self._make_room(slot)
            slot.state = SlotState.LOADING
            await self._engine.load(slot.name, folder)
            if self._engine.generation != slot.generation:
                raise EngineUnavailable("the engine restarted during the load")
        except BaseException as error:  # also a cancelled load: its slot and folder are let go of
            self._slots.end(slot, may_be_inside=not isinstance(error, EngineRefused))
            raise
        slot.state = SlotState.LOADED
        self.loads += 1

    async def _make_room(self, slot: Slot) -> None:
        """Return with fewer than may be in the engine, and no await after having seen so."""
        slot.state = SlotState.WAITING
        while slot.generation == self._slots.generation:
            inside = self._slots.inside()
            if len(inside) < self._most():
                return
            if slot.unasked and not slot.leases:
                raise _NoRoom(f"there is no room for {slot.version} that nobody else wants")
            idle = [other for other in inside if other.is_idle and other.name not in self._pinned]
            if idle:
                await self._evict(self._slots.least_worth(idle, self._queues.wants))
            else:
                self._room.clear()
                await self._room.wait()
        raise EngineUnavailable("the engine restarted before the load")

    async def _evict(self, slot: Slot) -> None:
        slot.state = SlotState.LEAVING
        # Whoever asks for it now waits for this to end and loads it again.
        slot.work = _begin(self._unload(slot), f"unload {slot.version}")
        await asyncio.shield(slot.work)
        self.evictions += slot.fault is None

    async def _drain(self, slot: Slot) -> None:
        await slot.until_idle()
        if not self._slots.is_usable(slot):
            self._slots.put_back(slot)  # its engine is gone, or has forgotten it
            return
        slot.state = SlotState.LEAVING
        await self._unload(slot)

    async def _unload(self, slot: Slot) -> None:
        if slot.version in self.before:
            self.before.remove(slot.version)
        try:
            await self._engine.unload(slot.name)
            self._slots.put_back(slot)
        except EngineError as error:
            # Gone with the engine, or kept by it against its word: its own LRU takes care of that.
            _log.warning("unloading %s: %s", slot.version, error)
            slot.fault = error
        finally:
            self._slots.end(slot, may_be_inside=True)

    # -- room -------------------------------------------------------------------------------------

    def _most(self) -> int:
        """How many of ours may be in the engine: in any case one more than are pinned."""
        return max(self.capacity - len(self.foreign), len(self._pinned) + 1)

    def _is_kept(self, name: str) -> bool:
        """Pinned and there: it has its room whether somebody uses it or not."""
        slot = self._slots.get(name)
        return name in self._pinned and slot is not None and not slot.is_going

    def _for_unpinned(self) -> int:
        return max(1, self._most() - sum(map(self._is_kept, self._pinned)))

    def _look(self) -> None:
        """There may be more room than before."""
        self._room.set()
        self._queues.loadable.look()

    # -- an engine's life -------------------------------------------------------------------------

    async def settle(self) -> int:
        """The generation that is up, once it is known what that holds. Raises EngineUnavailable."""
        while True:
            generation = await self._engine.wait_ready()
            if generation == self._slots.generation:
                return generation
            if self._settling is None or self._settling.done():
                self._settling = _begin(self._settle(generation), f"settle {self._engine.name}")
            await asyncio.shield(self._settling)

    async def _settle(self, generation: int) -> None:
        # A life that ended before it had loaded all again hands on the rest.
        had = self._slots.by_use()
        self.before = [*had, *(v for v in self.before if v not in had)][: self.capacity]
        self._slots.clear()
        names = await self._listed()
        ours = await asyncio.to_thread(self._find, names)
        if self._engine.generation != generation:
            raise EngineUnavailable("the engine restarted again")
        self._slots.generation = generation
        self.foreign = tuple(sorted(set(names) - set(ours)))
        for version in ours.values():
            slot = self._slots.add(version, unasked=True)
            slot.state = SlotState.LOADING
            slot.work = _begin(self._adopt(slot), f"adopt {version}")
        if self.foreign:
            _log.warning(
                "%s holds %d adapters of others; of ours it gets %d",
                *(self._engine.name, len(self.foreign), self._most()),
            )
        self._look()

    async def _listed(self) -> list[str]:
        try:
            return await self._engine.adapters()
        except EngineRefused as error:
            _log.warning("%s; it is taken for empty", error)
            return []

    async def _adopt(self, slot: Slot) -> None:
        """The engine has it from before: its name holds its digest, and its files are checked."""
        try:
            await asyncio.to_thread(self._servable, slot.version)
        except HubError as error:
            _log.warning("%s goes from %s: %s", slot.version, self._engine.name, error)
            slot.state = SlotState.LEAVING
            await self._unload(slot)
            raise
        slot.holds_folder = True
        if slot.generation != self._slots.generation:
            self._slots.put_back(slot)
            raise EngineUnavailable("the engine restarted meanwhile")
        slot.state = SlotState.LOADED
        self._room.set()

    async def _recheck(self) -> None:
        """What the engine does not list is not there; it may have restarted unseen."""
        believed = [slot for slot in self._slots if slot.state is SlotState.LOADED]
        try:
            names = set(await self._engine.adapters())
        except EngineError:
            return  # the next one who misses something asks again
        for slot in believed:
            if slot.name not in names and self._slots.is_usable(slot):
                self._slots.drop(slot)


def _begin(work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
    task = asyncio.create_task(work, name=name)
    # All who waited for it may have gone; its failure was theirs to tell.
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
