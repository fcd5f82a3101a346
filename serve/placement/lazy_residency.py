"""Adapters on an engine that finds them by name: a version is put where it looks, and asked for.

What is loaded there, when, and what goes for it is the engine's own affair: nothing is known of it,
so nothing is counted. Files are checked against their hashes before they are offered, once for each
version, and simultaneous first requests offer it once.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

from hub.records import Version
from serve.engines.base import Engine

Servable = Callable[[Version], Path]
LetGo = Callable[[Version], None]
Offer = Callable[[str, Path], None]


class LazyResidency:
    """`offer(engine_name, folder)` puts a folder where the engine looks; any thread may call it."""

    def __init__(
        self, engine: Engine, servable: Servable, let_go: LetGo, make_offer: Callable[[], Offer]
    ) -> None:
        self._engine = engine
        self._servable = servable
        self._let_go = let_go
        self._make_offer = make_offer
        self._offers: dict[str, asyncio.Task[None]] = {}

    async def acquire(self, version: Version) -> "LazyLease":
        """Raises as `Residency.acquire`, but for what only a load can tell."""
        await self._engine.wait_ready()
        name = version.engine_name
        offer = self._offers.get(name)
        # One that failed may have had nobody left to tell: this request has its own try.
        if offer is None or (offer.done() and (offer.cancelled() or offer.exception())):
            offer = asyncio.create_task(self._give(version), name=f"offer {version}")
            self._offers[name] = offer
        try:
            await asyncio.shield(offer)
        except BaseException:  # also a cancelled caller: a failed offer is not to be handed on
            if offer.done() and self._offers.get(name) is offer:
                del self._offers[name]
            raise
        return LazyLease(name)

    def holds(self, version: Version) -> bool:
        """Nobody knows."""
        return False

    def forget(self, version: Version) -> None:
        """The engine did not find it: it is checked and offered again."""
        self._offers.pop(version.engine_name, None)

    async def close(self) -> None:
        offers = [offer for offer in self._offers.values() if not offer.done()]
        for offer in offers:
            offer.cancel()
        await asyncio.gather(*offers, return_exceptions=True)

    async def _give(self, version: Version) -> None:
        await asyncio.to_thread(self._give_in_thread, version, self._make_offer())

    def _give_in_thread(self, version: Version, offer: Offer) -> None:
        folder = self._servable(version)
        try:
            offer(version.engine_name, folder)
        finally:
            # What is offered is a copy or a link of its own.
            self._let_go(version)


class LazyLease:
    """The name to ask for; the engine keeps its own count of who uses it."""

    def __init__(self, engine_name: str) -> None:
        self.engine_name = engine_name

    def release(self) -> None:
        """Nothing is held."""
