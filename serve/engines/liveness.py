"""An engine's state and generation, and waiting for it to be up."""

import asyncio

from hub.errors import EngineUnavailable
from serve.engines.base import EngineState
from serve.engines.client import EngineClient


class Liveness:
    """Holds the client of the present life. Everything happens in one event loop."""

    def __init__(self) -> None:
        self.state = EngineState.STARTING
        self.generation = 0
        self._client: EngineClient | None = None
        self._changed = asyncio.Event()

    @property
    def url(self) -> str | None:
        return self._client.url if self._client else None

    def client(self) -> EngineClient:
        """Raises EngineUnavailable while the engine is down."""
        if self._client is None:
            raise self._down()
        return self._client

    def up(self, client: EngineClient) -> None:
        self.state = EngineState.READY
        self.generation += 1
        self._client = client
        self._tell()

    async def down(self, state: EngineState) -> None:
        """The present life is over: its requests fail, and new ones wait."""
        client, self._client = self._client, None
        self.state = state
        self._tell()
        if client is not None:
            await client.close()

    async def wait_ready(self, *, after: int = 0) -> int:
        while self.state is not EngineState.READY or self.generation <= after:
            if self.state is EngineState.STOPPED:
                raise self._down()
            await self._changed.wait()
        return self.generation

    def _tell(self) -> None:
        # Waiters look again by themselves; a fresh event serves those that come later.
        self._changed.set()
        self._changed = asyncio.Event()

    def _down(self) -> EngineUnavailable:
        return EngineUnavailable(
            f"the engine is {self.state.value}", hint="Try again in a moment; /ready says when."
        )
