"""The right to use a version in an engine, and the three queues that lead to it.

Each queue lets in so many versions at once, none of them for ever (`serve.placement.places`):

- `ahead`: those that have to be loaded first, until they run. No more are loaded ahead than can run
  next; loaded earlier they would only wait, in places from which something had to go that may be
  asked for again. What is loaded already passes this queue by.
- `loadable`: those that somebody uses or waits for in the engine. There are as many as it may hold,
  so one that is admitted finds a free slot or an idle one.
- `batch`: those that the engine runs together.

They are always entered in this order, so nobody waits in a circle.
"""

from collections.abc import Callable
from dataclasses import dataclass

from serve.placement.places import Places
from serve.placement.slots import Slot

# To change what runs in a batch costs an engine milliseconds; to load means reading files first.
_BATCH_QUANTUM_S = 0.5
_LOADED_QUANTUM_S = 2.0
_AHEAD = 4


@dataclass(frozen=True)
class Queues:
    ahead: Places
    loadable: Places
    batch: Places

    @classmethod
    def of(cls, loadable: Callable[[], int], batch: int) -> "Queues":
        """For so many versions, `loadable` being asked whenever it matters.

        Half as many are loaded ahead as run together: with 64 clients, Zipf traffic over 1,000
        adapters, 31 slots and a batch of 8 that makes 0.94 of the hits of the optimum that knows
        the future; as many as run make 0.91, no such limit 0.68 (measured through the tests'
        double of an engine). Four in any case, so that slow files hold up no others.
        """
        ahead = max(_AHEAD, batch // 2)
        return cls(
            ahead=Places(lambda: ahead, quantum_s=_LOADED_QUANTUM_S),
            loadable=Places(loadable, quantum_s=_LOADED_QUANTUM_S),
            batch=Places(lambda: batch, quantum_s=_BATCH_QUANTUM_S),
        )

    @property
    def waiting(self) -> int:
        """How many versions wait to be loaded, or until one of those in use may go."""
        return self.ahead.waiting + self.loadable.waiting

    def wants(self, engine_name: str) -> bool:
        """Whether requests for it wait before the engine."""
        return self.ahead.is_waited_for(engine_name) or self.loadable.is_waited_for(engine_name)


class Lease:
    """Use a version under `engine_name` until released; releasing twice is one.

    `returned` is called when it was the slot's last.
    """

    def __init__(self, engine_name: str, queues: Queues, returned: Callable[[], None]) -> None:
        self.engine_name = engine_name
        self.slot: Slot | None = None
        self._queues = queues
        self._returned = returned
        self.is_ahead = False
        self._is_loadable = False
        self._in_batch = False

    async def enter_ahead(self) -> None:
        await self._queues.ahead.enter(self.engine_name)
        self.is_ahead = True

    async def enter_loadable(self) -> None:
        await self._queues.loadable.enter(self.engine_name)
        self._is_loadable = True

    def take(self, slot: Slot) -> None:
        slot.leases += 1
        self.slot = slot

    async def enter_batch(self) -> None:
        await self._queues.batch.enter(self.engine_name)
        self._in_batch = True
        self._leave_ahead()

    def release(self) -> None:
        if self._in_batch:
            self._in_batch = False
            self._queues.batch.leave(self.engine_name)
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.leases -= 1
            if not slot.leases:
                slot.tell_idle()
                self._returned()
        if self._is_loadable:
            self._is_loadable = False
            self._queues.loadable.leave(self.engine_name)
        self._leave_ahead()

    def _leave_ahead(self) -> None:
        if self.is_ahead:
            self.is_ahead = False
            self._queues.ahead.leave(self.engine_name)
