"""What every request must pass before any route sees it. Pure ASGI: streams pass untouched.

- The Host header names this machine's loopback: a page on another site that makes its own name
  resolve to 127.0.0.1 (DNS rebinding) is still that other site to the browser, and is refused.
  Where API keys are wanted any name will do: no such page has the key, and no browser sends it by
  itself.
- What changes something comes in a shape that browsers don't send across sites without asking first
  (CSRF): a POST is declared as JSON, PUT and DELETE are asked about in any case, and nothing here
  answers that question (a preflight). A browser that says by itself that another site is asking
  (Sec-Fetch-Site) is refused as well.
- Other methods than those that some route has are refused here: no preflight gets an answer.
- A HEAD is a GET whose body the server leaves out, as long as no route says otherwise.
- What the registry is sent is JSON that can be written again: no lone half of a surrogate pair.
- A body is no larger than the limit, whether it was announced or comes in chunks. A file that is
  put to `/hub/blobs/`, or posted in a form to `/v1/files`, has a limit of its own and passes as it
  comes; all others are read first. A form is what a page of another site may send unasked, so it
  must not come with an Origin other than this server's.
"""

import asyncio
import re

import orjson
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.errors import BodyTooLarge
from serve.failures import refusal

_LOOPBACK_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_METHODS = frozenset({*_SAFE_METHODS, "POST", "PUT", "PATCH", "DELETE"})
_REGISTRY = "/hub/"
_FILES = "/hub/blobs/"
_FORMS = "/v1/files"
_OWN = frozenset({"same-origin", "none"})
# Of a body that is over a limit, so much is read all the same.
_SWALLOWED = 1 << 20
_SILENCE_S = 2.0


# In a scope: this server wants API keys, and `serve.doors.access` has seen to it.
KEYED = "hub.keyed"
# In a scope: the client wants the head of what a GET would give.
ASKED_HEAD = "hub.asked_head"


class Doors:
    """Without `max_file_bytes` no forms are taken."""

    def __init__(
        self, app: ASGIApp, *, max_body_bytes: int, max_blob_bytes: int, max_file_bytes: int = 0
    ) -> None:
        self._app = app
        self._limit = max_body_bytes
        self._blob_limit = max_blob_bytes
        self._file_limit = max_file_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = None if scope.get(KEYED) else _wrong_host(headers)
        refused = refused or _wrong_method(scope)
        if refused is None and scope["method"] not in _SAFE_METHODS:
            form = self._file_limit > 0 and _is_form(scope, headers)
            refused = _wrong_origin(headers, form=form)
            refused = refused or (None if form else _wrong_type(scope, headers))
            if refused is None:
                try:
                    refused, receive = await self._let_in(scope, headers, receive)
                except ClientDisconnect:
                    return  # before its request was whole: there is nobody to answer
        if scope["method"] == "HEAD" and not scope["path"].startswith(_FILES):
            # The server's own scope still says HEAD, by which it drops the body.
            scope = {**scope, "method": "GET", ASKED_HEAD: True}
        await (refused or self._app)(scope, receive, send)

    async def _let_in(
        self, scope: Scope, headers: Headers, receive: Receive
    ) -> tuple[Response | None, Receive]:
        """A refusal, or what the route reads the body from."""
        if (form := _is_form(scope, headers)) or _is_file(scope, headers):
            limit = self._file_limit if form else self._blob_limit
            if _announced(headers) > limit:
                if form:
                    await _swallow(receive, limit)
                return self._too_large(limit), receive
            return None, _bounded(receive, limit)
        body = await self._body(headers, receive)
        if body is None:
            return self._too_large(self._limit), receive
        return _wrong_json(scope, body), _replay(body, receive)

    async def _body(self, headers: Headers, receive: Receive) -> bytes | None:
        """The whole body, or None when it is over the limit. Raises ClientDisconnect."""
        if _announced(headers) > self._limit:
            return None
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] != "http.request":
                raise ClientDisconnect
            part = message.get("body", b"")
            size += len(part)
            if size > self._limit:
                return None
            parts.append(part)
            if not message.get("more_body", False):
                return b"".join(parts)

    def _too_large(self, limit: int) -> Response:
        answer = refusal(413, "body_too_large", f"the body is over {limit} bytes")
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


def _wrong_method(scope: Scope) -> Response | None:
    method = scope["method"]
    if method in _METHODS:
        return None
    return refusal(405, "method_not_allowed", f"nothing here answers {method[:20]!a}")


def _wrong_json(scope: Scope, body: bytes) -> Response | None:
    """orjson takes neither NaN nor half a surrogate pair, which Python's own reader does."""
    if not body or not scope["path"].startswith(_REGISTRY):
        return None
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return refusal(400, "invalid_request", f"the body is not JSON: {error}")
    return None


def _wrong_origin(headers: Headers, *, form: bool) -> Response | None:
    """Only browsers send these headers, and pages can't change them; proxies pass them on."""
    origin = headers.get("origin", "").partition("://")[2]
    foreign = form and "origin" in headers and origin != headers.get("host", "")
    if headers.get("sec-fetch-site", "none") in _OWN and not foreign:
        return None
    return refusal(403, "origin_refused", "a page on another site may not change anything here")


def _wrong_type(scope: Scope, headers: Headers) -> Response | None:
    if _kind(headers) == "application/json" or _is_file(scope, headers):
        return None
    if scope["method"] == "DELETE" and not _has_body(headers):
        return None
    if scope["method"] == "POST" and scope["path"] == _FORMS:
        return refusal(415, "form_only", "send a form, with content-type: multipart/form-data")
    return refusal(415, "json_only", "send a JSON body, with content-type: application/json")


def _is_file(scope: Scope, headers: Headers) -> bool:
    path: str = scope["path"]
    put = scope["method"] == "PUT" and path.startswith(_FILES)
    return put and _kind(headers) == "application/octet-stream"


def _is_form(scope: Scope, headers: Headers) -> bool:
    posted = scope["method"] == "POST" and scope["path"] == _FORMS
    return posted and _kind(headers) == "multipart/form-data"


def _kind(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _has_body(headers: Headers) -> bool:
    return "transfer-encoding" in headers or _announced(headers) > 0


def _announced(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isdecimal() else 0


def _bounded(receive: Receive, limit: int) -> Receive:
    """The body as it comes; raises BodyTooLarge to its reader once it is over the limit."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            await _swallow(receive, limit)
            raise BodyTooLarge(f"the body is over {limit} bytes")
        return message

    return counted


async def _swallow(receive: Receive, most: int) -> None:
    """Let a client send on for a while, so that it gets to read the answer: most look for one only
    when they have sent all, and see a connection that was closed before as a broken one. One that
    sends nothing waits for the answer already."""
    size = 0
    while size <= max(most, _SWALLOWED):
        try:
            message = await asyncio.wait_for(receive(), _SILENCE_S)
        except TimeoutError:
            return
        size += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


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
