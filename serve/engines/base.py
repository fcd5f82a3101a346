"""What the gateway needs of an engine, and nothing that only one kind of engine has.

A generation is one life of an engine's process: it grows at every restart, and whatever was loaded
in an earlier one is gone. All methods belong to the event loop that called `start`.

Absent on purpose: which adapters the gateway wants loaded (`serve.placement.residency`), what a
request looks like (`serve.requests.dispatch`), and any choice among several engines.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from serve.engines.spec import Loading
from serve.engines.wire import EngineAnswer


class EngineState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"


class Engine(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def url(self) -> str | None:
        """Where it answers now; None while it is down."""

    @property
    def base_model(self) -> str:
        """The name by which the engine itself knows the base."""

    @property
    def loads(self) -> Loading:
        """Whether it is told what to load, or finds adapters by their names."""

    @property
    def is_ours(self) -> bool:
        """Whether the gateway started it, and is who restarts it."""

    def model_name(self, engine_name: str) -> str:
        """How a request to it names the adapter that the hub calls `engine_name`."""

    @property
    def state(self) -> EngineState: ...

    @property
    def generation(self) -> int: ...

    async def start(self) -> None:
        """Bring it up and keep it up; returns when it answers for the first time.

        Raises:
            EngineStartFailed: when it does not come up; it may be tried again.
        """

    async def stop(self) -> None:
        """Let go of it; an engine of our own is dead when this returns."""

    async def wait_ready(self, *, after: int = 0) -> int:
        """The generation that is up, and later than `after`, waiting for it if need be; the caller
        sets the time limit.

        Raises:
            EngineUnavailable: when it has been stopped.
        """

    async def check(self) -> None:
        """Find out now whether it is alive: a request saw it misbehave."""

    async def load(self, engine_name: str, folder: Path) -> None:
        """Load an adapter from a folder; one that is loaded already is left as it is. Only for
        engines that load explicitly, as `unload`.

        Raises:
            EngineUnavailable: when the engine can't be reached.
            EngineRefused: when it says no, with its reason.
        """

    async def unload(self, engine_name: str) -> None:
        """Unload an adapter; one that is not there is no error. Raises as `load`."""

    async def adapters(self) -> list[str]:
        """What is loaded, by the names that it was loaded under. Raises as `load`."""

    async def open(self, path: str, body: bytes, headers: Mapping[str, str]) -> EngineAnswer:
        """Send a request, with headers beyond its own; returns at the answer's head.

        Raises:
            EngineUnavailable: when the connection fails.
        """
