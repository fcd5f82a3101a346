"""How many requests the engine has at once, how many wait, and who is next.

A lane is who a request counts for, from coarse to fine: today the adapter alone, `("support",)`;
with API keys it would be the key and then the adapter. Lanes share by max-min fairness: a turn goes
to the lane that has the fewest running, in rotation among equals; within a lane, to who came first.
So one lane may use everything while it is alone, and yields with every answer that ends when it is
not. When the queue is full, the newest request of the longest lane is refused rather than whoever
comes next (longest queue drop, McKenney 1991): a flood fills only its own part of the queue.

Absent on purpose: weights, and taking a turn back from a request that runs.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Iterator

from hub.errors import Overloaded

Lane = tuple[str, ...]

_PACE_WEIGHT = 0.1
_RETRY_AFTER_MOST_S = 60


class Turns:
    def __init__(self, *, running: int, waiting: int) -> None:
        self.running = 0
        self.waiting = 0
        self.refused = 0
        self._running_most = running
        self._waiting_most = waiting
        self._running_in: Counter[Lane] = Counter()
        self._waiting_in: Counter[Lane] = Counter()
        # In the order in which they were last served.
        self._lines: dict[Lane, deque[asyncio.Future[None]]] = {}
        self._pace_s = 0.0
        self._last_release = 0.0

    async def take(self, lane: Lane) -> "Turn":
        """A turn, at once or after a wait that the caller bounds; release it.

        Raises:
            Overloaded: when the queue is full and this lane fills most of it.
        """
        # Where anybody waits, everything is taken: a turn that ends goes straight to the next.
        if self.running < self._running_most:
            self._start(lane)
            return Turn(self, lane, 0.0)
        began = time.monotonic()
        await self._wait(lane)
        return Turn(self, lane, time.monotonic() - began)

    def _start(self, lane: Lane) -> None:
        self.running += 1
        for group in _groups(lane):
            self._running_in[group] += 1

    def _end(self, lane: Lane) -> None:
        self.running -= 1
        _take_off(self._running_in, lane)
        if self._lines:
            self._note_pace()
        while self._lines:
            lane, turn = self._next()
            if not turn.done():  # it may have been cancelled in the same moment
                self._start(lane)
                turn.set_result(None)
                return

    # -- waiting ----------------------------------------------------------------------------------

    async def _wait(self, lane: Lane) -> None:
        if self.waiting >= self._waiting_most:
            self._make_place(lane)
        if not self._lines:
            self._last_release = time.monotonic()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._lines.setdefault(lane, deque()).append(turn)
        self._count_waiting(lane)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end(lane)  # it was given in the same moment
            elif lane in self._lines and turn in self._lines[lane]:
                self._lines[lane].remove(turn)
                self._leave(lane)
            raise

    def _next(self) -> "tuple[Lane, asyncio.Future[None]]":
        """Whose turn it is, taken off the queue."""
        lane = min(self._lines, key=lambda lane: [self._running_in[g] for g in _groups(lane)])
        line = self._lines.pop(lane)
        turn = line.popleft()
        self._lines[lane] = line
        self._leave(lane)
        return lane, turn

    def _make_place(self, lane: Lane) -> None:
        """Refuse the newest of the longest lane, the newcomer counted in."""
        self.refused += 1
        self._count_waiting(lane)
        lanes = {lane: None, **self._lines}  # among equals the newcomer
        longest = max(lanes, key=lambda lane: [self._waiting_in[g] for g in _groups(lane)])
        self._uncount_waiting(lane)
        refusal = Overloaded(
            f"{self.running} requests run and {self.waiting} wait, which is all this gateway takes",
            retry_after_s=self._retry_after_s(),
        )
        if longest == lane or not self._lines.get(longest):
            raise refusal
        last = self._lines[longest].pop()
        self._leave(longest)
        if not last.done():
            last.set_exception(refusal)

    def _leave(self, lane: Lane) -> None:
        self._uncount_waiting(lane)
        if not self._lines[lane]:
            del self._lines[lane]

    def _count_waiting(self, lane: Lane) -> None:
        self.waiting += 1
        for group in _groups(lane):
            self._waiting_in[group] += 1

    def _uncount_waiting(self, lane: Lane) -> None:
        self.waiting -= 1
        _take_off(self._waiting_in, lane)

    # -- pace -------------------------------------------------------------------------------------

    def _note_pace(self) -> None:
        """A moving mean of the time between two turns that end while others wait."""
        now = time.monotonic()
        between, self._last_release = now - self._last_release, now
        weight = _PACE_WEIGHT if self._pace_s else 1.0
        self._pace_s += weight * (between - self._pace_s)

    def _retry_after_s(self) -> int:
        """About when the queue that is there now will be through."""
        return max(1, min(math.ceil(self.waiting * self._pace_s), _RETRY_AFTER_MOST_S))


class Turn:
    """The right to use the engine until released; releasing twice is one."""

    def __init__(self, turns: Turns, lane: Lane, waited_s: float) -> None:
        self.waited_s = waited_s
        self._turns: Turns | None = turns
        self._lane = lane

    def release(self) -> None:
        turns, self._turns = self._turns, None
        if turns is not None:
            turns._end(self._lane)


def _groups(lane: Lane) -> Iterator[Lane]:
    """`("team", "support")` counts for `("team",)` and for itself."""
    for end in range(1, len(lane) + 1):
        yield lane[:end]


def _take_off(counts: "Counter[Lane]", lane: Lane) -> None:
    for group in _groups(lane):
        counts[group] -= 1
        if not counts[group]:
            del counts[group]
