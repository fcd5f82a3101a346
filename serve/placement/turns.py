"""How many requests the engine has at once, how many wait, and who is next.

A lane is who a request counts for, from coarse to fine: the API key ('' without one) and then the
adapter. Lanes share by max-min fairness: a turn goes
to the lane that has the fewest running, in rotation among equals; within a lane, to who came first.
So one lane may use everything while it is alone, and yields with every answer that ends when it is
not. When the queue is full, the newest request of the longest lane is refused rather than whoever
comes next (longest queue drop, McKenney 1991): a flood fills only its own part of the queue.

A key may have a limit of its own: so many of its requests run, `WAITING_PER_RUNNING` times as many
wait, and the next is refused, however idle the rest is.

Absent on purpose: weights, and taking a turn back from a request that runs.
"""

import asyncio
import math
import time
from collections import Counter, deque
from collections.abc import Iterator

from hub.errors import Overloaded

Lane = tuple[str, ...]
# The proportion of the gateway's own limits.
WAITING_PER_RUNNING = 4

_PACE_WEIGHT = 0.1
_RETRY_AFTER_MOST_S = 60


class Turns:
    def __init__(self, *, running: int, waiting: int) -> None:
        self.running = 0
        self.waiting = 0
        self.refused = 0
        self._running_most = running
        self._waiting_most = waiting
        self._most: dict[Lane, int] = {}
        self._running_in: Counter[Lane] = Counter()
        self._waiting_in: Counter[Lane] = Counter()
        # In the order in which they were last served.
        self._lines: dict[Lane, deque[asyncio.Future[None]]] = {}
        self._pace_s = 0.0
        self._last_release = 0.0

    async def take(self, lane: Lane, *, most: int | None = None) -> "Turn":
        """A turn, at once or after a wait that the caller bounds; release it. No more than `most`
        run at once of all lanes with this one's first part.

        Raises:
            Overloaded: when the queue is full and this lane fills most of it, or its own part is.
        """
        self._limit(lane[:1], most)
        # Where anybody waits, everything that they may have is taken: a turn that ends goes
        # straight to the next.
        if self.running < self._running_most and self._may_run(lane):
            self._start(lane)
            return Turn(self, lane, 0.0)
        began = time.monotonic()
        await self._wait(lane)
        return Turn(self, lane, time.monotonic() - began)

    def _limit(self, group: Lane, most: int | None) -> None:
        if most is not None:
            self._most[group] = most
        elif group in self._most:
            del self._most[group]

    def _may_run(self, lane: Lane) -> bool:
        most = self._most.get(lane[:1])
        return most is None or self._running_in[lane[:1]] < most

    def _start(self, lane: Lane) -> None:
        self.running += 1
        for group in _groups(lane):
            self._running_in[group] += 1

    def _end(self, lane: Lane) -> None:
        self.running -= 1
        _take_off(self._running_in, lane)
        if self._lines:
            self._note_pace()
        while (following := self._next()) is not None:
            lane, turn = following
            if not turn.done():  # it may have been cancelled in the same moment
                self._start(lane)
                turn.set_result(None)
                return

    # -- waiting ----------------------------------------------------------------------------------

    async def _wait(self, lane: Lane) -> None:
        self._refuse_beyond_own(lane)
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

    def _next(self) -> "tuple[Lane, asyncio.Future[None]] | None":
        """Whose turn it is, taken off the queue; None when nobody who waits may run."""
        free = filter(self._may_run, self._lines) if self._most else self._lines
        lane = min(
            free, key=lambda lane: [self._running_in[g] for g in _groups(lane)], default=None
        )
        if lane is None:
            return None
        line = self._lines.pop(lane)
        turn = line.popleft()
        self._lines[lane] = line
        self._leave(lane)
        return lane, turn

    def _refuse_beyond_own(self, lane: Lane) -> None:
        most = self._most.get(lane[:1])
        if most is None or self._waiting_in[lane[:1]] < most * WAITING_PER_RUNNING:
            return
        self.refused += 1
        raise Overloaded(
            f"{self._running_in[lane[:1]]} requests of this API key run and"
            f" {self._waiting_in[lane[:1]]} wait, which is all it may have",
            retry_after_s=self._retry_after_s(),
        )

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
        if self._pace_s:
            self._pace_s += _PACE_WEIGHT * (between - self._pace_s)
        else:
            # The first of those that began together; the others will follow close behind.
            self._pace_s = between / self._running_most

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
