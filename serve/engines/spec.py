"""How an engine that somebody else runs is named: `URL[,loads=…][,api=…][,name=…]`.

- `loads`: `explicit` (the gateway loads and unloads adapters by calls) or `lazy` (the engine finds
  an adapter by its name when it is asked for it: vLLM with its filesystem resolver, Ray Serve LLM).
- `api`: whose load and unload calls it has, `vllm` or `sglang`.
- `name`: how a request names an adapter, made of `{name}` and, where the engine wants it, `{base}`:
  SGLang and Ray Serve LLM take `{base}:{name}`.

Explicit loading wants each engine's own URL: a load that goes through a balancer reaches one of
several, and nobody knows which.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from string import Formatter
from typing import TypeVar
from urllib.parse import urlsplit

from hub.errors import UsageError

_EXAMPLE = "--engine http://gpu1:8000,loads=lazy,name={base}:{name}"


class Loading(StrEnum):
    EXPLICIT = "explicit"
    LAZY = "lazy"


class Api(StrEnum):
    VLLM = "vllm"
    SGLANG = "sglang"


_Kind = TypeVar("_Kind", bound=StrEnum)
_NAME = {Api.VLLM: "{name}", Api.SGLANG: "{base}:{name}"}


@dataclass(frozen=True)
class EngineSpec:
    """Raises UsageError, naming what is wrong with it."""

    url: str
    loads: Loading = Loading.EXPLICIT
    api: Api = Api.VLLM
    name: str = "{name}"

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise UsageError(f"the engine '{self.url}': {problem}", hint=f"As in {_EXAMPLE}")

    def _problems(self) -> Iterator[str]:
        if not _is_address(self.url):
            yield "use http://HOST:PORT"
        try:
            parsed = [part[1:] for part in Formatter().parse(self.name) if part[1] is not None]
        except ValueError as error:
            yield f"its name template '{self.name}': {error}"
            return
        fields = [field for field, _, _ in parsed]
        plain = not any(form or conversion for _, form, conversion in parsed)
        if fields.count("name") != 1 or not set(fields) <= {"name", "base"} or not plain:
            yield f"its name template is '{self.name}': use {{name}} once, and {{base}} if need be"

    @classmethod
    def parse(cls, text: str) -> "EngineSpec":
        """Raises UsageError."""
        url, *options = text.split(",")
        given: dict[str, str] = {}
        for option in options:
            key, found, value = option.partition("=")
            if not found or key not in ("loads", "api", "name") or key in given:
                raise UsageError(
                    f"the engine '{url}': '{option}' is none of loads=, api= and name=, each once",
                    hint=f"As in {_EXAMPLE}",
                )
            given[key] = value
        api = _choice(Api, url, "api", given.get("api", Api.VLLM))
        loads = _choice(Loading, url, "loads", given.get("loads", Loading.EXPLICIT))
        return cls(url.rstrip("/"), loads, api, given.get("name", _NAME[api]))

    def model_name(self, base: str, engine_name: str) -> str:
        """The `model` of a request for an adapter that the hub calls `engine_name`."""
        return self.name.format(base=base, name=engine_name)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none, half an IPv6 address
        return False


def _choice(kind: type[_Kind], url: str, option: str, value: str) -> _Kind:
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(kind)
        raise UsageError(f"the engine '{url}': {option} is '{value}': use {known}") from None
