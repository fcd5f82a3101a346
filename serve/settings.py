"""What a gateway is told when it starts; checked once, frozen after.

Where it may listen is decided here: loopback only. API keys do not exist in this version, so any
other address would hand the adapters, the log and the engine to everybody who can reach it.

Nothing here reads files, the environment or the registry: the caller brings the base.
"""

from dataclasses import dataclass

from hub.errors import AddressRefused, InvalidConfig
from hub.keys import PublicKey
from hub.records import Base
from serve.logs import LogFormat

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# vLLM compiles its kernels for these and refuses every other value of --max-lora-rank.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_LIMITS = ("max_body_bytes", "max_blob_bytes")


@dataclass(frozen=True)
class Settings:
    """`max_loras` adapters run in one batch, `max_cpu_loras` are held by the engine at once.

    `engine_url` names an engine that somebody else runs; the settings that shape an engine
    (`engine_args`, ranks, `kv_cache_gib`) are then that person's business. `request_timeout_s`
    bounds the wait for an answer's first byte, queueing included, and every later silence.
    `max_running` requests are at the engine at once and `max_waiting` more may wait for their turn;
    further ones are refused. `log_format` is text (warnings) or json (every request too).
    `drain_s` is how long requests may finish after the gateway was told to stop. `max_blob_bytes`
    bounds a file that is sent to be published, `max_body_bytes` every other body. With `signed_by`,
    only versions that one of these keys has signed are served, and the base; the files of others
    are not given out.

    Raises:
        InvalidConfig: naming every unusable setting.
        AddressRefused: when `host` is not a loopback address.
    """

    base: Base
    host: str = "127.0.0.1"
    port: int = 8000
    engine_url: str | None = None
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
    signed_by: tuple[PublicKey, ...] = ()

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InvalidConfig(problems, where="hub serve")
        check_address(self.host)

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
            found.append(f"max_cpu_loras is {self.max_cpu_loras}: use {least} or more")
        if self.engine_url is not None and not self.engine_url.startswith(("http://", "https://")):
            found.append(f"engine is '{self.engine_url}': use http://HOST:PORT")
        amounts = ("kv_cache_gib", "startup_timeout_s", "request_timeout_s", *_LIMITS)
        found += [f"{name} must be above 0" for name in amounts if getattr(self, name) <= 0]
        if self.max_running < 1:
            found.append(f"max_running is {self.max_running}: use 1 or more")
        if self.max_waiting < 0:
            found.append("max_waiting can't be below 0")
        if self.drain_s < 0:
            found.append("drain_s can't be below 0")
        return found


@dataclass(frozen=True)
class RegistrySettings:
    """Of a server without an engine; the fields are those of `Settings`.

    Raises:
        InvalidConfig: naming every unusable setting.
        AddressRefused: when `host` is not a loopback address.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    log_format: LogFormat = "text"
    max_body_bytes: int = 8 * 1024 * 1024
    max_blob_bytes: int = 8 * 1024**3
    signed_by: tuple[PublicKey, ...] = ()

    def __post_init__(self) -> None:
        problems = _port_problems(self.port)
        problems += [f"{name} must be above 0" for name in _LIMITS if getattr(self, name) <= 0]
        if problems:
            raise InvalidConfig(problems, where="hub serve")
        check_address(self.host)


def _port_problems(port: int) -> list[str]:
    return [] if 0 <= port <= 65535 else [f"port is {port}: use 0 (any free one) to 65535"]


def check_address(host: str) -> None:
    """Raises AddressRefused unless `host` is this machine's own loopback."""
    if host not in LOOPBACK:
        raise AddressRefused(
            f"the gateway listens on this machine only, not on '{host}': API keys don't exist "
            "in this version, so everybody who reaches it could use and read everything",
            hint="Keep 127.0.0.1 and put a proxy that authenticates in front of it.",
        )
