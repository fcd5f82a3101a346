"""What every request must pass before any route sees it. Pure ASGI: streams pass untouched.

- The Host header names this machine's loopback: a page on another site that makes its own name
  resolve to 127.0.0.1 (DNS rebinding) is still that other site to the browser, and is refused.
- A body that changes something is declared as JSON: browsers send other kinds across sites without
  asking first (CSRF), and JSON only after a preflight, which nothing here answers.
- A body is no larger than the limit, whether it was announced or comes in chunks.
"""

import re

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.failures import refusal

_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class Doors:
    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        changes = scope["method"] not in _SAFE_METHODS
        refused = _wrong_host(headers) or (_wrong_type(headers) if changes else None)
        if refused is None and changes:
            body = await self._body(headers, receive)
            if body is None:
                refused = self._too_large()
            else:
                receive = _replay(body, receive)
        await (refused or self._app)(scope, receive, send)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body, or None when it is over the limit."""
        announced = headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > self._limit:
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return b""  # the client has gone; nobody reads the answer
            part = message.get("body", b"")
            size += len(part)
            if size > self._limit:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self) -> Response:
        answer = refusal(413, "body_too_large", f"the body is over {self._limit} bytes")
        # The rest of the body is not read, so the connection can't serve another request.
        answer.headers["connection"] = "close"
        return answer


def _wrong_host(headers: Headers) -> Response | None:
    host = headers.get("host", "")
    if _LOOPBACK_HOST.fullmatch(host):
        return None
    return refusal(
        403, "host_refused", f"this gateway answers to localhost only, not to {host[:80]!a}"
    )


def _wrong_type(headers: Headers) -> Response | None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        return None
    return refusal(415, "json_only", "send a JSON body, with content-type: application/json")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one piece, then whatever comes (the disconnect)."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
