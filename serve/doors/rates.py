"""How often a key may ask: a token bucket for each that has a rate.

A bucket holds a minute's worth: so many requests may come at once, and then one whenever another
has trickled in. What a client is told (`x-ratelimit-…`) is OpenAI's set of headers for requests.
"""

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from hub.errors import RateLimited
from hub.facts import KeyFacts

_MINUTE = 60.0
_PRUNE_ABOVE = 1000


@dataclass
class _Bucket:
    left: float
    at: float


class Rates:
    """`clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, _Bucket] = {}

    def take(self, key: KeyFacts) -> dict[str, str]:
        """Count one request of a key; returns the headers that its answer carries.

        Raises:
            RateLimited: when its bucket is empty, saying when there will be one again.
        """
        rate = key.rate_per_minute
        if rate is None:
            return {}
        at = self._clock()
        bucket = self._buckets.setdefault(key.id, _Bucket(rate, at))
        bucket.left = min(rate, bucket.left + (at - bucket.at) * rate / _MINUTE)
        bucket.at = at
        if bucket.left < 1:
            seconds = (1 - bucket.left) * _MINUTE / rate
            raise RateLimited(
                f"the API key '{key.name}' may ask {rate} times a minute, and has",
                retry_after_s=max(1, math.ceil(seconds)),
            )
        bucket.left -= 1
        return self.headers(key)

    def headers(self, key: KeyFacts) -> dict[str, str]:
        """What is left, and in how many seconds all of it will be there again."""
        rate = key.rate_per_minute
        if rate is None:
            return {}
        bucket = self._buckets.get(key.id)
        left = bucket.left if bucket else float(rate)
        return {
            "x-ratelimit-limit-requests": str(rate),
            "x-ratelimit-remaining-requests": str(math.floor(left)),
            "x-ratelimit-reset-requests": f"{(rate - left) * _MINUTE / rate:.1f}s",
        }

    def forget_others(self, living: Collection[str]) -> None:
        """Drop the buckets of keys that are gone, once there are many."""
        if len(self._buckets) > _PRUNE_ABOVE:
            self._buckets = {k: bucket for k, bucket in self._buckets.items() if k in living}
