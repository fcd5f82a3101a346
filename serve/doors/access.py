"""The first thing that a request meets after its id: does it come with a key, and how often.

Before a byte of the body is read, so that strangers can't make the server hold anything. What the
key may do is asked where it is known what is wanted: at the routes (`serve.caller.Needs`), which
are refused to everybody but a whole admin where they declare nothing.

Where keys are wanted, the Host header is no longer looked at (`serve.doors.doors`): a browser sends
no Bearer token by itself, so a page of another site has nothing to gain by a name.
"""

from collections.abc import Callable

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.errors import InvalidApiKey, RateLimited
from serve.caller import ANYBODY, NOBODY, Caller, caller, rules_of
from serve.doors.arrivals import notes
from serve.doors.doors import KEYED
from serve.doors.keyring import Keyring
from serve.doors.rates import Rates
from serve.failures import answer_to

# For probes, and for the page that asks its user for the key.
_OPEN = frozenset({"/health", "/ready", "/", "/console"})
_OPEN_BELOW = "/console/"
_READING = frozenset({"GET", "HEAD"})


class Access:
    """`refused` is told of each request that is refused here: for 'key' or 'rate'."""

    def __init__(self, app: ASGIApp, keyring: Keyring, refused: Callable[[str], None]) -> None:
        self._app = app
        self._keyring = keyring
        self._refused = refused
        self._rates = Rates()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            who = self._who(scope)
        except InvalidApiKey as error:
            self._refused("key")
            await answer_to(scope["method"], scope["path"], error)(scope, receive, send)
            return
        caller.set(who)
        scope[KEYED] = who is not ANYBODY
        if who.key is not None:
            notes(scope)["key"] = who.key.name
            if who.key.rate_per_minute is not None:
                try:
                    send = _with_headers(send, self._rates.take(who.key))
                except RateLimited as error:
                    self._refused("rate")
                    answer = answer_to(scope["method"], scope["path"], error)
                    answer.headers.update(self._rates.headers(who.key))
                    await answer(scope, receive, send)
                    return
                self._rates.forget_others(self._keyring.living)
        await self._app(scope, receive, send)

    def _who(self, scope: Scope) -> Caller:
        if is_open(scope["method"], scope["path"]):
            return NOBODY if self._keyring.closed else ANYBODY
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                given = value
                break
        return self._keyring.caller(given.decode("latin-1"))


def is_open(method: str, path: str) -> bool:
    """Whether a path answers without a key on a server that wants keys."""
    return method in _READING and (path in _OPEN or path.startswith(_OPEN_BELOW))


async def undeclared_is_admins(request: Request) -> None:
    """The app's own dependency: a route that declares no rule is for whole admins only."""
    if not rules_of(request.scope.get("route")):
        caller.get().require("admin")
        caller.get().require_everything()


def _with_headers(send: Send, headers: dict[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(headers)
        await send(message)

    return sending
