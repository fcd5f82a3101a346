"""Who asks: what the request that runs now may do, and what there is for it.

It travels in a context variable, like the request's id, so that nothing on the way can forget to
hand it on: the resolver, the registry's threads and the log all look here. `serve.doors.access`
sets it; outside of a request it is the server itself, which may everything.
"""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal

from fastapi import Depends, params

from hub.apikeys import ADMIN, FEEDBACK, INFER
from hub.errors import InsufficientScope, InvalidApiKey
from hub.facts import KeyFacts
from hub.names import namespace_of

Scope = Literal["infer", "feedback", "admin"]
_ALL = frozenset({INFER, FEEDBACK, ADMIN})
BASE = "base"


@dataclass(frozen=True)
class Caller:
    """`key` is None where the server wants none. `namespaces` None means every adapter."""

    scopes: frozenset[str]
    namespaces: frozenset[str] | None = None
    key: KeyFacts | None = None

    @classmethod
    def of(cls, key: KeyFacts) -> "Caller":
        """`admin` holds the other scopes."""
        scopes = _ALL if ADMIN in key.scopes else frozenset(key.scopes)
        namespaces = None if key.namespaces is None else frozenset(key.namespaces)
        return cls(scopes, namespaces, key)

    @property
    def id(self) -> str:
        """The key's public id, '' without one."""
        return self.key.id if self.key else ""

    @property
    def concurrent(self) -> int | None:
        return self.key.concurrent if self.key else None

    def sees(self, adapter: str) -> bool:
        """Whether an adapter is there for it: by name (`acme/support`), or `base`."""
        return (
            self.namespaces is None or adapter == BASE or namespace_of(adapter) in self.namespaces
        )

    def sees_version(self, reference: str) -> bool:
        """The same for `acme/support@3`."""
        return self.sees(reference.partition("@")[0])

    def sees_work_of(self, key: str | None, *versions: str) -> bool:
        """Whether what a key has asked for, and these versions have answered, is its to see: its
        own, and the answers of its adapters. Of the base it sees its own only."""
        if self.namespaces is None or (key is not None and key == self.id):
            return True
        return all(v != BASE and self.sees_version(v) for v in versions)

    def require(self, scope: str) -> None:
        """Raises InsufficientScope."""
        if scope not in self.scopes:
            raise InsufficientScope(
                f"this API key has no scope for this: it needs '{scope}'",
                hint=f"`hub keys create NAME --scope {scope}` makes one that has it.",
            )

    def require_everything(self) -> None:
        """Raises InsufficientScope for a key that is limited to namespaces."""
        if self.namespaces is not None:
            raise InsufficientScope(
                "this concerns the whole hub, and the API key is limited to namespaces",
                hint="Use a key without --namespace.",
            )


# The server itself, and whoever asks one that wants no keys.
ANYBODY = Caller(_ALL)
# For paths that want no key on a server that does: nothing may be done in its name.
NOBODY = Caller(frozenset(), frozenset())

caller: ContextVar[Caller] = ContextVar("caller", default=ANYBODY)


# -- what a route asks of its caller ---------------------------------------------------------------


class Needs:
    """A route's rule, as a dependency: the scope that it wants, None for none at all.

    With `everything` the key must not be limited to namespaces either.
    """

    def __init__(self, scope: Scope | None, *, everything: bool = False) -> None:
        self.scope = scope
        self.everything = everything

    async def __call__(self) -> None:
        if self.scope is not None:
            caller.get().require(self.scope)
        if self.everything:
            caller.get().require_everything()


def needs(scope: Scope | None, *, everything: bool = False) -> params.Depends:
    """For `APIRouter(dependencies=[needs("infer")])`, or one route's."""
    depends: params.Depends = Depends(Needs(scope, everything=everything))
    return depends


def rules_of(route: object) -> list[Needs]:
    """The rules that a route has been given, by itself and by its routers."""
    found = [depends.dependency for depends in getattr(route, "dependencies", ())]
    return [rule for rule in found if isinstance(rule, Needs)]


def no_key() -> InvalidApiKey:
    return InvalidApiKey(
        "this hub wants an API key, and none came with the request that is valid here",
        hint="Send a living one as `Authorization: Bearer loom_…` (commands read HUB_KEY);"
        " `hub keys create NAME` makes one on the hub's machine.",
    )
