"""What a gateway is told when it starts; checked once, frozen after.

Where it may listen is decided here: loopback only. API keys do not exist in this version, so any
other address would hand the adapters, the log and the engine to everybody who can reach it.

Nothing here reads files, the environment or the registry: the caller brings the base.
"""

from dataclasses import dataclass

from hub.errors import AddressRefused, InvalidConfig
from hub.records import Base

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# vLLM compiles its kernels for these and refuses every other value of --max-lora-rank.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(frozen=True)
class Settings:
    """`max_loras` adapters run in one batch, `max_cpu_loras` are held by the engine at once.

    `engine_url` names an engine that somebody else runs; the settings that shape an engine
    (`engine_args`, ranks, `kv_cache_gib`) are then that person's business. `request_timeout_s`
    bounds the wait for an answer's first byte and every later silence. `drain_s` is how long
    requests may finish after the gateway was told to stop.

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
    drain_s: float = 5.0
    max_body_bytes: int = 8 * 1024 * 1024

    def __post_init__(self) -> None:
        problems = list(self._problems())
        if problems:
            raise InvalidConfig(problems, where="hub serve")
        check_address(self.host)

    def _problems(self) -> list[str]:
        found = []
        if not 0 <= self.port <= 65535:
            found.append(f"port is {self.port}: use 0 (any free one) to 65535")
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
        amounts = ("kv_cache_gib", "startup_timeout_s", "request_timeout_s", "max_body_bytes")
        found += [f"{name} must be above 0" for name in amounts if getattr(self, name) <= 0]
        if self.drain_s < 0:
            found.append("drain_s can't be below 0")
        return found


def check_address(host: str) -> None:
    """Raises AddressRefused unless `host` is this machine's own loopback."""
    if host not in LOOPBACK:
        raise AddressRefused(
            f"the gateway listens on this machine only, not on '{host}': API keys don't exist "
            "in this version, so everybody who reaches it could use and read everything",
            hint="Keep 127.0.0.1 and put a proxy that authenticates in front of it.",
        )
