"""What a gateway is told when it starts; checked once, frozen after.

Where it may listen is decided here: on loopback only, unless the hub has an API key. Without one,
any other address would hand the adapters, the log and the engine to everybody who can reach it.

Nothing here reads files, the environment or the registry: the caller brings the base.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from hub.errors import AddressRefused, InvalidConfig
from hub.keys import PublicKey
from hub.records import Base
from serve.engines.spec import EngineSpec, Loading
from serve.logs import LogFormat

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# vLLM compiles its kernels for these and refuses every other value of --max-lora-rank.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_RANK_ROOM = 64
_CPU_SLOTS = (32, 128)
_LIMITS = ("max_body_bytes", "max_blob_bytes")


def rank_for(highest: int) -> int:
    """The least `max_lora_rank` for adapters up to this rank, and for what may come (64)."""
    return next(rank for rank in LORA_RANKS if rank >= max(highest, _RANK_ROOM))


def cpu_slots_for(adapters: int, max_loras: int) -> int:
    """The `max_cpu_loras` that holds so many adapters at once, within what is cheap."""
    least = max(_CPU_SLOTS[0], max_loras)
    # One slot stays free (see Settings), and some are for versions that are on their way out.
    return max(least, min(adapters + 8, _CPU_SLOTS[1]))


@dataclass(frozen=True)
class Settings:
    """`max_loras` adapters run in one batch, `max_cpu_loras` are held by the engine at once.

    `engines` of vLLM are started here, unless `engines_elsewhere` names some that somebody else
    runs; the settings that shape an engine (`engine_args`, ranks, `kv_cache_gib`) are then that
    person's business. Those that load lazily find adapters in `adapter_folder`, a folder or a URL
    that fsspec knows, which they and the gateway see. `request_timeout_s`
    bounds the wait for an answer's first byte, queueing included, and every later silence.
    `max_running` requests are at the engine at once and `max_waiting` more may wait for their turn;
    further ones are refused. `log_format` is text (warnings) or json (every request too).
    `drain_s` is how long requests may finish after the gateway was told to stop. `max_blob_bytes`
    bounds a file that is sent to be published, `max_file_bytes` one that is sent to be trained on,
    with what is around it in its form, and `max_body_bytes` every other body. `pins` are
    references whose versions are loaded at start and never evicted. With `signed_by`,
    only versions that one of these keys has signed are served, and the base; the files of others
    are not given out. `keyed` says that the registry has a living API key: then everybody must come
    with one, and `host` may be any address; `require_keys` wants them even while there is none.

    Raises:
        InvalidConfig: naming every unusable setting.
        AddressRefused: as `check_address`.
    """

    base: Base
    host: str = "127.0.0.1"
    port: int = 8000
    engines: int = 1
    engines_elsewhere: tuple[EngineSpec, ...] = ()
    adapter_folder: str | None = None
    pins: tuple[str, ...] = ()
    max_loras: int = 8
    max_cpu_loras: int = 32
    max_lora_rank: int = 64
    engine_args: tuple[str, ...] = ()
    kv_cache_gib: int = 1
    startup_timeout_s: float = 600.0
    request_timeout_s: float = 600.0
    max_running: int = 256
    max_waiting: int = 1024
    log_format: LogFormat = "text"
    drain_s: float = 5.0
    max_body_bytes: int = 8 * 1024 * 1024
    max_blob_bytes: int = 8 * 1024**3
    max_file_bytes: int = 512 * 1024**2
    signed_by: tuple[PublicKey, ...] = ()
    keyed: bool = False
    require_keys: bool = False

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InvalidConfig(problems, where="hub serve")
        check_address(self.host, keyed=self.keyed)

    def _problems(self) -> list[str]:
        found = _port_problems(self.port)
        if self.max_lora_rank not in LORA_RANKS:
            ranks = ", ".join(map(str, LORA_RANKS))
            found.append(f"max_lora_rank is {self.max_lora_rank}: vLLM takes {ranks}")
        if self.max_loras < 1:
            found.append(f"max_loras is {self.max_loras}: use 1 or more")
        # One below the limit is kept free, so that the engine never evicts by itself.
        if self.max_cpu_loras < max(2, self.max_loras):
            least = max(2, self.max_loras)
            found.append(
                f"max_cpu_loras is {self.max_cpu_loras}: use {least} or more (as many as max_loras)"
            )
        if self.engines < 1:
            found.append(f"engines is {self.engines}: use 1 or more")
        found += self._problems_elsewhere()
        limits = (*_LIMITS, "max_file_bytes")
        amounts = ("kv_cache_gib", "startup_timeout_s", "request_timeout_s", *limits)
        # Neither nan nor inf: a deadline that is none would never come.
        amiss = [name for name in amounts if not 0 < getattr(self, name) < math.inf]
        found += [f"{name} must be above 0, and finite" for name in amiss]
        if self.max_running < 1:
            found.append(f"max_running is {self.max_running}: use 1 or more")
        if self.max_waiting < 0:
            found.append("max_waiting can't be below 0")
        if self.drain_s < 0:
            found.append("drain_s can't be below 0")
        return found

    def _problems_elsewhere(self) -> Iterator[str]:
        urls = [spec.url for spec in self.engines_elsewhere]
        for url in sorted({url for url in urls if urls.count(url) > 1}):
            yield f"the engine {url} is given more than once"
        if urls and self.engines > 1:
            yield "engines counts those that are started here, and there are some elsewhere"
        given = [name for name in ("engine_args", "kv_cache_gib") if self._is_given(name)]
        for name in given if urls else ():
            yield f"{name} is for engines that are started here, and there are some elsewhere"
        lazy = [spec.url for spec in self.engines_elsewhere if spec.loads is Loading.LAZY]
        if lazy and self.adapter_folder is None:
            yield f"{lazy[0]} loads lazily: say where it finds adapters, with --adapter-folder"
        if self.adapter_folder is not None and not lazy:
            yield "adapter_folder is for engines that load lazily, and there is none"

    def _is_given(self, name: str) -> bool:
        default = next(field.default for field in fields(self) if field.name == name)
        return bool(getattr(self, name) != default)


@dataclass(frozen=True)
class RegistrySettings:
    """Of a server without an engine; the fields are those of `Settings`.

    Raises:
        InvalidConfig: naming every unusable setting.
        AddressRefused: as `check_address`.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    log_format: LogFormat = "text"
    max_body_bytes: int = 8 * 1024 * 1024
    max_blob_bytes: int = 8 * 1024**3
    signed_by: tuple[PublicKey, ...] = ()
    keyed: bool = False
    require_keys: bool = False

    def __post_init__(self) -> None:
        problems = _port_problems(self.port)
        problems += [f"{name} must be above 0" for name in _LIMITS if getattr(self, name) <= 0]
        if problems:
            raise InvalidConfig(problems, where="hub serve")
        check_address(self.host, keyed=self.keyed)


def _port_problems(port: int) -> list[str]:
    return [] if 0 <= port <= 65535 else [f"port is {port}: use 0 (any free one) to 65535"]


def check_address(host: str, *, keyed: bool) -> None:
    """Raises AddressRefused unless `host` is this machine's own loopback, or the hub has a living
    API key (`keyed`)."""
    if host not in LOOPBACK and not keyed:
        raise AddressRefused(
            f"this hub has no API key, so it listens on this machine only, not on '{host}':"
            " everybody who reaches it could use and read everything",
            hint="Make one first: `hub keys create NAME` (`--scope admin` for your own).",
        )
