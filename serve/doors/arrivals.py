"""Every request gets an id, every answer carries it, and in JSON logs every request has its line.

A client's own `x-request-id` is taken where it is short and printable, so that one id can be
followed through a proxy, this gateway and its log; otherwise one is made.
"""

import logging
import re
import time
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.feedback.interactions import new_id
from serve.logs import request_id

_log = logging.getLogger(__name__)

HEADER = b"x-request-id"
_USABLE = re.compile(rb"[\x21-\x7e]{1,128}")
_NOTES = "hub.notes"


def notes(scope: Scope) -> MutableMapping[str, Any]:
    """What a route has to say of its request, for the request's line."""
    noted: MutableMapping[str, Any] = scope[_NOTES]
    return noted


class Arrivals:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == HEADER), b"")
        own_id = given if _USABLE.fullmatch(given) else new_id("req").encode()
        request_id.set(own_id.decode())
        scope[_NOTES] = {}
        started = time.perf_counter()
        status = 0

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, own_id)]
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            if _log.isEnabledFor(logging.INFO):
                _tell(scope, status, time.perf_counter() - started)


def _tell(scope: Scope, status: int, seconds: float) -> None:
    line = {
        "method": scope["method"],
        "path": scope["path"],
        "status": status or None,  # none was sent to a client that had gone
        "ms": round(seconds * 1000, 3),
        **notes(scope),
    }
    _log.info("%s %s %s", scope["method"], scope["path"], status, extra={"fields": line})
