"""The table of what one engine holds or is about to, and of the folders that it may still read.

A slot is in the table from the first request for its version until the engine has let go of it. It
holds the version's folder from the check of its files on; each folder is let go of once: when the
engine has unloaded the adapter, or is gone. An engine that did not answer may still have it, so
that folder waits for the engine's next life.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from hub.errors import EngineError
from hub.records import Version
from serve.placement.worth import Worth

LetGo = Callable[[Version], None]


class SlotState(StrEnum):
    CHECKING = "checking"
    WAITING = "waiting"
    LOADING = "loading"
    LOADED = "loaded"
    DRAINING = "draining"
    LEAVING = "leaving"


_GOING = frozenset({SlotState.DRAINING, SlotState.LEAVING})
_IN_ENGINE = frozenset({SlotState.LOADING, SlotState.LOADED, *_GOING})


@dataclass(eq=False)
class Slot:
    """`order` grows with use; `work` is the load or unload that it waits for, or the last one."""

    version: Version
    generation: int
    # Nobody has asked for it: it takes no room that another could want.
    unasked: bool = False
    state: SlotState = SlotState.CHECKING
    leases: int = 0
    order: int = 0
    used_at: float | None = None
    holds_folder: bool = False
    work: "asyncio.Task[None] | None" = field(default=None, repr=False)
    idle: "asyncio.Future[None] | None" = field(default=None, repr=False)
    fault: EngineError | None = None

    @property
    def name(self) -> str:
        return self.version.engine_name

    @property
    def is_at_work(self) -> bool:
        return self.work is not None and not self.work.done()

    @property
    def is_in_engine(self) -> bool:
        return self.state in _IN_ENGINE

    @property
    def is_going(self) -> bool:
        return self.state in _GOING

    @property
    def is_idle(self) -> bool:
        return self.state is SlotState.LOADED and not self.leases

    def tell_idle(self) -> None:
        if self.idle is not None and not self.idle.done():
            self.idle.set_result(None)

    async def until_idle(self) -> None:
        """Returns when all leases are back; nobody may take one meanwhile."""
        if self.leases:
            self.idle = asyncio.get_running_loop().create_future()
            await self.idle


@dataclass(frozen=True)
class Resident:
    """`used_at` is when it was last leased, in seconds since 1970; None if it never was."""

    version: str
    state: SlotState
    leases: int
    pinned: bool
    used_at: float | None


class Slots:
    """`changed` is called whenever there may be more room than before."""

    def __init__(self, let_go: LetGo, changed: Callable[[], None]) -> None:
        # Of the engine's life that these are about; 0 while it is not known what that one has.
        self.generation = 0
        self._let_go = let_go
        self._changed = changed
        self._table: dict[str, Slot] = {}
        # Out of the table, but perhaps still in the engine.
        self._lingering: list[Slot] = []
        self._clock = 0
        # Of what has gone too: who comes back is no stranger.
        self._worth = Worth()

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._table.values())

    def get(self, engine_name: str) -> Slot | None:
        return self._table.get(engine_name)

    def inside(self) -> list[Slot]:
        return [slot for slot in self if slot.is_in_engine]

    def is_usable(self, slot: Slot) -> bool:
        """Loaded in the present life, for those who have a lease."""
        there = self.get(slot.name) is slot
        return there and slot.state in (SlotState.LOADED, SlotState.DRAINING)

    def by_use(self) -> list[Version]:
        """What is loaded, the last used first."""
        loaded = [slot for slot in self if slot.state is SlotState.LOADED]
        loaded.sort(key=lambda slot: slot.order, reverse=True)
        return [slot.version for slot in loaded]

    def residents(self, pinned: Collection[str]) -> list[Resident]:
        """By name: their order of use would tell which side of a blind comparison is which."""
        return [
            Resident(str(slot.version), slot.state, slot.leases, slot.name in pinned, slot.used_at)
            for slot in sorted(self, key=lambda slot: (slot.version.adapter, slot.version.number))
        ]

    def add(self, version: Version, *, unasked: bool) -> Slot:
        """A slot for what has none. What nobody asked for goes before all that was, and the last
        of it first."""
        slot = Slot(version, self.generation, unasked, order=-len(self._table))
        self._table[slot.name] = slot
        return slot

    def touch(self, slot: Slot) -> None:
        self._clock += 1
        slot.order = self._clock
        self._worth.asked(slot.name)

    def least_worth(self, slots: Iterable[Slot], wanted: Callable[[str], bool]) -> Slot:
        """One that nobody waits for, if there is any; of equals the one that was used longest ago,
        what nobody has asked for first."""

        def keeping(slot: Slot) -> tuple[bool, float, int]:
            return wanted(slot.name), self._worth.of(slot.name), slot.order

        return min(slots, key=keeping)

    def put_back(self, slot: Slot) -> None:
        """The engine reads the slot's folder no more."""
        if slot.holds_folder:
            slot.holds_folder = False
            self._let_go(slot.version)

    def end(self, slot: Slot, *, may_be_inside: bool) -> None:
        """The slot's work is over and so is the slot."""
        if self.get(slot.name) is slot:
            del self._table[slot.name]
        present = slot.generation == self.generation
        if slot.holds_folder and may_be_inside and slot.is_in_engine and present:
            self._lingering.append(slot)
        else:
            self.put_back(slot)
        self._changed()

    def drop(self, slot: Slot) -> None:
        """The engine turned out not to have it; work under way sees to its own folder."""
        del self._table[slot.name]
        if slot.is_at_work:
            self._lingering.append(slot)
        else:
            self.put_back(slot)
        self._changed()

    def clear(self) -> None:
        """The engine is gone, and all that it had with it; work under way sees to its own."""
        self.generation = 0
        idle = [slot for slot in self if not slot.is_at_work]
        for slot in (*idle, *self._lingering):
            self.put_back(slot)
        self._table.clear()
        self._lingering.clear()
        self._changed()
