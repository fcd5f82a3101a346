"""An engine that somebody else runs, given by URL: probed, never started, stopped or restarted.

One that is told what to load needs --enable-lora, VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and the hub's
folder at the same path; one that loads lazily needs the folder that the gateway fills for it.
Adapters that others loaded into it are left alone. A restart is seen as a time of no answer; one
that is quicker than the probes shows when the engine no longer knows a name, and
`serve.requests.dispatch` then loads it again.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from pathlib import Path

from hub.errors import (
    EngineError,
    EngineRefused,
    EngineSilent,
    EngineStartFailed,
    EngineUnavailable,
)
from hub.records import Base
from serve.engines.base import EngineState
from serve.engines.client import EngineClient
from serve.engines.liveness import Liveness
from serve.engines.spec import EngineSpec
from serve.engines.wire import EngineAnswer

_PROBE_EVERY_S = 1.0
# As `serve.engines.supervisor` has it.
_SILENT_PROBES = 3


class RemoteEngine:
    """An `Engine` at a URL; it must serve the base that the gateway was started with."""

    is_ours = False

    def __init__(
        self, name: str, spec: EngineSpec, base: Base, *, startup_s: float, silence_s: float
    ) -> None:
        self.name = name
        self.loads = spec.loads
        # What the engine itself was told to serve: its --model, by which it knows the base.
        self.base_root = base.source
        self._spec = spec
        self._base = base
        self._startup_s = startup_s
        self._silence_s = silence_s
        self._base_model = base.name
        self._live = Liveness()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def base_model(self) -> str:
        return self._base_model

    def model_name(self, engine_name: str) -> str:
        return self._spec.model_name(self._base_model, engine_name)

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
        try:
            async with asyncio.timeout(self._startup_s):
                await self._connect()
        except TimeoutError:
            raise EngineSilent(
                f"no engine answers at {self._spec.url} within {self._startup_s:g} s", log_tail=""
            ) from None
        except EngineRefused as error:
            raise EngineStartFailed(error.message, log_tail="", hint=error.hint) from error
        self._watcher = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    async def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher
        await self._live.down(EngineState.STOPPED)

    async def wait_ready(self, *, after: int = 0) -> int:
        return await self._live.wait_ready(after=after)

    async def check(self) -> None:
        generation = self.generation
        if self._live.state is not EngineState.READY or await self._alive():
            return
        if self.generation == generation:
            await self._live.down(EngineState.RESTARTING)

    async def load(self, engine_name: str, folder: Path) -> None:
        await self._live.client().load(engine_name, folder)

    async def unload(self, engine_name: str) -> None:
        await self._live.client().unload(engine_name)

    async def adapters(self) -> list[str]:
        models = await self._live.client().models()
        try:
            self._which_base(models)
        except EngineRefused as error:
            # Behind one address another server may come up without a moment's silence.
            await self._live.down(EngineState.RESTARTING)
            raise EngineUnavailable(error.message, hint=error.hint) from error
        return [str(model["id"]) for model in models if model.get("parent")]

    async def open(self, path: str, body: bytes, headers: Mapping[str, str]) -> EngineAnswer:
        return await self._live.client().open(path, body, headers)

    async def _connect(self) -> None:
        """Wait for the engine, check which base it serves, and take it up."""
        client = EngineClient(self._spec.url, silence_s=self._silence_s, api=self._spec.api)
        try:
            while True:
                with contextlib.suppress(EngineUnavailable):
                    if await client.health() == 200:
                        self._base_model = self._which_base(await client.models())
                        break
                await asyncio.sleep(_PROBE_EVERY_S)
        except BaseException:  # also cancelled by a shutdown: nothing stays open
            await client.close()
            raise
        self._live.up(client)

    def _which_base(self, models: list[dict[str, object]]) -> str:
        served = {str(model["id"]): model for model in models if not model.get("parent")}
        for name in (self._base.name, self._base.source):
            if name in served:
                self.base_root = str(served[name].get("root") or self._base.source)
                return name
        raise EngineRefused(
            f"the engine at {self._spec.url} serves {', '.join(served) or 'nothing'}, "
            f"not the base '{self._base.name}'",
            hint=f"Start it with --served-model-name {self._base.name}, or choose its --base.",
        )

    async def _alive(self) -> bool:
        try:
            return await self._live.client().health() in (200, None)
        except EngineUnavailable:
            return False

    async def _answers(self) -> bool:
        """As `_alive`, with an end to its patience: so many probes without an answer are a hang."""
        for _ in range(_SILENT_PROBES):
            try:
                if (status := await self._live.client().health()) is not None:
                    return status == 200
            except EngineUnavailable:
                return False
        return False

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            if not await self._answers():
                await self._live.down(EngineState.RESTARTING)
            if self._live.state is EngineState.RESTARTING:
                # Another base may have come up there: keep refusing until it is the right one.
                with contextlib.suppress(EngineError):
                    await self._connect()
