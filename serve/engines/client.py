"""vLLM's and SGLang's HTTP lines, spoken with aiohttp: one client for one life of one engine.

aiohttp's exceptions end here: what fails on the way is EngineUnavailable, what the engine refuses
is EngineRefused. Nothing is retried here, and no answer is interpreted beyond its status.
"""

from collections.abc import Mapping
from pathlib import Path

import aiohttp
import orjson

from hub.errors import EngineRefused, EngineUnavailable
from serve.engines.spec import Api
from serve.engines.wire import EngineAnswer, Wire

# vLLM's server closes idle connections after 5 s; reusing one just then would fail a request.
_KEEPALIVE_S = 4.0
_CONTROL_TIMEOUT = aiohttp.ClientTimeout(total=60)
_HEALTH_TIMEOUT = aiohttp.ClientTimeout(total=10)
_JSON = {"content-type": "application/json"}
_HEALTH = "/health"
# Ray Serve has no /health; its proxies say here whether they take requests.
_RAY_HEALTH = "/-/healthz"


class EngineClient:
    def __init__(self, url: str, *, silence_s: float, api: Api = Api.VLLM) -> None:
        self.url = url.rstrip("/")
        # SGLang has vLLM's calls and bodies, without the /v1.
        self._calls = "/v1" if api is Api.VLLM else ""
        self._health = _HEALTH
        self._wire = Wire(url, silence_s=silence_s)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            # Proxies from the environment are for the outside world.
            trust_env=False,
        )

    async def close(self) -> None:
        """End this life: what is still being answered fails, wherever it waits."""
        self._wire.close()
        await self._session.close()

    async def health(self) -> int | None:
        """The status of /health; None when nothing answers in time, which may mean it is busy.

        Raises:
            EngineUnavailable: when nobody listens any more.
        """
        try:
            status = await self._status(self._health)
            if status == 404 and self._health == _HEALTH:
                self._health = _RAY_HEALTH
                status = await self._status(self._health)
            return status
        except TimeoutError:
            return None
        except (aiohttp.ClientError, OSError) as error:
            raise _unavailable("the engine does not answer", error) from error

    async def _status(self, path: str) -> int:
        async with self._session.get(f"{self.url}{path}", timeout=_HEALTH_TIMEOUT) as response:
            return response.status

    async def models(self) -> list[dict[str, object]]:
        """The engine's own /v1/models: the base, and adapters, which have a `parent`; each has its
        `id`."""
        status, text = await self._exchange("GET", "/v1/models")
        if status != 200:
            raise EngineRefused(f"the engine lists no models: {_reason(status, text)}")
        try:
            models = list(orjson.loads(text)["data"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            models = [None]
        if not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in models):
            raise EngineRefused(f"{self.url}/v1/models is not a list of models")
        return models

    async def adapters(self) -> list[str]:
        return [str(model["id"]) for model in await self.models() if model.get("parent")]

    async def load(self, engine_name: str, folder: Path) -> None:
        status, text = await self._exchange(
            "POST",
            f"{self._calls}/load_lora_adapter",
            {"lora_name": engine_name, "lora_path": str(folder)},
        )
        # The name holds the digest, so what is loaded under it has the same weights.
        if status == 200 or (status == 400 and any(words in text for words in _LOADED_ALREADY)):
            return
        shown = engine_name.partition("#")[0]
        # vLLM's words name the hub's folder, and the adapter by what the engine calls it.
        reason = _reason(status, text).replace(str(folder), "its folder")
        raise EngineRefused(
            f"the engine refused to load {shown}: {reason.replace(engine_name, shown)}",
            hint=_LORA_OFF if status in (404, 405) and "lora" not in text.lower() else None,
        )

    async def unload(self, engine_name: str) -> None:
        status, text = await self._exchange(
            "POST", f"{self._calls}/unload_lora_adapter", {"lora_name": engine_name}
        )
        if status not in (200, 404) and not (status == 400 and _NOT_LOADED in text):
            shown = engine_name.partition("#")[0]
            reason = _reason(status, text).replace(engine_name, shown)
            raise EngineRefused(f"the engine refused to unload {shown}: {reason}")

    async def open(self, path: str, body: bytes, headers: Mapping[str, str]) -> EngineAnswer:
        return await self._wire.post(path, body, headers)

    async def _exchange(
        self, method: str, path: str, body: dict[str, str] | None = None
    ) -> tuple[int, str]:
        try:
            async with self._session.request(
                method,
                f"{self.url}{path}",
                data=None if body is None else orjson.dumps(body),
                headers=_JSON,
                timeout=_CONTROL_TIMEOUT,
            ) as response:
                return response.status, await response.text(errors="replace")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unavailable("the engine does not answer", error) from error


# vLLM's words, and SGLang's.
_LOADED_ALREADY = ("already been loaded", "already exists")
_NOT_LOADED = "does not exist"  # SGLang's; vLLM says 404
_LORA_OFF = (
    "Start it with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1, "
    "on a machine that sees the hub's folder."
)


def _unavailable(what: str, error: BaseException) -> EngineUnavailable:
    return EngineUnavailable(f"{what} ({type(error).__name__})", hint="Try again in a moment.")


def _reason(status: int, text: str) -> str:
    """vLLM's or SGLang's error message out of its JSON, or the text's beginning."""
    try:
        said = orjson.loads(text)
        return str(said["error_message"] if "error_message" in said else said["error"]["message"])[
            :500
        ]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"HTTP {status} {text[:300]}"
