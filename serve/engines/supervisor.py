"""Keeps one engine process up: starts it, probes it, restarts it with growing pauses.

An engine is dead when its process ends, when it answers /health with an error (vLLM's API server
does so when its engine core is gone), when nobody listens, or when it is silent for several probes.
The first start is tried once: what fails then is the configuration, and repeating it helps nobody.

Absent on purpose: reloading adapters (`serve.placement.residency` does it on demand, by
generation).
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.errors import EngineStartFailed, EngineUnavailable
from serve.engines.base import EngineState
from serve.engines.client import EngineClient
from serve.engines.liveness import Liveness
from serve.engines.process import GuardedProcess, rotate
from serve.engines.spec import Loading
from serve.engines.wire import EngineAnswer

_log = logging.getLogger(__name__)

_PROBE_EVERY_S = 1.0
_START_PROBE_EVERY_S = 0.2
# A busy vLLM on few cores may leave a probe (10 s) unanswered; three in a row are a hang.
_SILENT_PROBES = 3
_BACKOFF_S = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_STEADY_S = 60.0


@dataclass(frozen=True)
class Launch:
    """How to start an engine on a port; without `cores` it may run on all of them."""

    command: Callable[[int], Sequence[str]]
    environment: dict[str, str]
    base_model: str
    cores: tuple[int, ...] = ()


class SupervisedEngine:
    """An `Engine` whose process is ours."""

    is_ours = True
    loads = Loading.EXPLICIT

    def __init__(
        self, name: str, launch: Launch, log: Path, *, startup_s: float, silence_s: float
    ) -> None:
        self.name = name
        self.base_model = launch.base_model
        self.log = log
        self._launch = launch
        self._startup_s = startup_s
        self._silence_s = silence_s
        self._live = Liveness()
        self._process: GuardedProcess | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._look_now = asyncio.Event()

    @property
    def url(self) -> str | None:
        return self._live.url

    @property
    def state(self) -> EngineState:
        return self._live.state

    @property
    def generation(self) -> int:
        return self._live.generation

    async def start(self) -> None:
        rotate(self.log)
        await self._come_up()
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self) -> None:
        # The watcher first: it must not bring up what is being stopped.
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await self._live.down(EngineState.STOPPED)
        if self._process is not None:
            await self._process.stop()

    def model_name(self, engine_name: str) -> str:
        return engine_name

    async def wait_ready(self, *, after: int = 0) -> int:
        return await self._live.wait_ready(after=after)

    async def check(self) -> None:
        generation = self.generation
        if self._live.state is not EngineState.READY or not await self._fault(patient=False):
            return
        # It may have been restarted while it was probed.
        if self.generation == generation:
            await self._live.down(EngineState.RESTARTING)
            self._look_now.set()

    async def load(self, engine_name: str, folder: Path) -> None:
        await self._live.client().load(engine_name, folder)

    async def unload(self, engine_name: str) -> None:
        await self._live.client().unload(engine_name)

    async def adapters(self) -> list[str]:
        return await self._live.client().adapters()

    async def open(self, path: str, body: bytes, headers: Mapping[str, str]) -> EngineAnswer:
        return await self._live.client().open(path, body, headers)

    # -- one life ---------------------------------------------------------------------------------

    async def _come_up(self) -> None:
        """Start a process and wait until it answers; whatever happens, none is left half-started.

        Raises:
            EngineStartFailed: when it ends or takes too long.
        """
        port = _free_port()
        process = await GuardedProcess.start(
            self._launch.command(port),
            self._launch.environment,
            self.log,
            cores=self._launch.cores,
        )
        self._process = process
        client = EngineClient(f"http://127.0.0.1:{port}", silence_s=self._silence_s)
        try:
            await self._until_healthy(process, client)
        except BaseException:  # also cancelled by a shutdown: nothing stays open
            await client.close()
            await process.stop()
            raise
        self._live.up(client)

    async def _until_healthy(self, process: GuardedProcess, client: EngineClient) -> None:
        ended = asyncio.create_task(process.wait())
        try:
            async with asyncio.timeout(self._startup_s):
                while not await _healthy(client):
                    done, _ = await asyncio.wait({ended}, timeout=_START_PROBE_EVERY_S)
                    if done:
                        raise EngineStartFailed(
                            f"the engine ended at start with status {ended.result()}",
                            log_tail=process.tail(),
                            hint=f"The whole log is {self.log}",
                        )
        except TimeoutError:
            raise EngineStartFailed(
                f"the engine did not answer within {self._startup_s:g} s",
                log_tail=process.tail(),
                hint=f"The whole log is {self.log}",
            ) from None
        finally:
            ended.cancel()

    async def _watch(self) -> None:
        """Restart it whenever it dies, until `stop`."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            born = loop.time()
            fault = await self._until_fault()
            _log.error(
                "%s died (%s); restarting it; its log is %s, which ends:\n%s",
                *(self.name, fault, self.log, self._process.tail() if self._process else ""),
            )
            await self._live.down(EngineState.RESTARTING)
            failures = 0 if loop.time() - born > _STEADY_S else failures
            while True:
                if self._process is not None:
                    await self._process.stop()
                await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
                failures += 1
                try:
                    await self._come_up()
                except (EngineStartFailed, OSError) as error:
                    # OSError: no room for the log, no process to be had. It may pass.
                    _log.error("%s", error)
                    continue
                break
            _log.warning("%s is up again (life %d)", self.name, self.generation)

    async def _until_fault(self) -> str:
        assert self._process is not None
        ended = asyncio.create_task(self._process.wait())
        try:
            while True:
                self._look_now.clear()
                if ended.done():
                    return f"its process ended with status {ended.result()}"
                if self._live.state is not EngineState.READY:
                    return "a request found it dead"
                if fault := await self._fault(patient=True):
                    return fault
                looked = asyncio.create_task(self._look_now.wait())
                await asyncio.wait(
                    {ended, looked}, timeout=_PROBE_EVERY_S, return_when=asyncio.FIRST_COMPLETED
                )
                looked.cancel()
        finally:
            ended.cancel()

    async def _fault(self, *, patient: bool) -> str | None:
        """What is wrong with it, if anything; `patient` allows for a busy engine's silence."""
        for _ in range(_SILENT_PROBES if patient else 1):
            try:
                status = await self._live.client().health()
            except EngineUnavailable as error:
                return error.message
            if status is not None:
                return None if status == 200 else f"/health says {status}"
        return "it does not answer /health" if patient else None


async def _healthy(client: EngineClient) -> bool:
    try:
        return await client.health() == 200
    except EngineUnavailable:
        return False


def _free_port() -> int:
    """A port that nobody listens on: another for each life, so no old socket is in the way."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
