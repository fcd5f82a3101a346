"""JSON answers, written by orjson, and answers with an ETag, so that nothing is sent twice."""

import hashlib
from typing import Any

import orjson
from fastapi import Request
from starlette.responses import JSONResponse, Response

from serve.caller import caller

# Whoever keeps a copy asks each time whether it still holds.
ASK_AGAIN = "no-cache"
# What is named by its content or its number never changes.
_FOR_EVER = "max-age=31536000, immutable"


def for_ever() -> str:
    """`cache-control` of what never changes: for whoever asked alone, where that takes a key."""
    return f"{'public' if caller.get().key is None else 'private'}, {_FOR_EVER}"


class OrjsonResponse(JSONResponse):
    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def tagged(
    request: Request, content: Any, *, digest: str = "", headers: dict[str, str] | None = None
) -> Response:
    """`content` as JSON, its ETag a hash of the very bytes; 304 where the client has them.

    `digest` goes in front: the tag of an answer about a version begins with its digest, and what
    follows changes with what may change about it.
    """
    body = orjson.dumps(content)
    short = hashlib.sha256(body).hexdigest()[:16]
    tag = f"{digest}.{short}" if digest else short
    kept = {"etag": f'"{tag}"', "cache-control": ASK_AGAIN, **(headers or {})}
    if has(request, tag):
        return Response(status_code=304, headers=kept)
    return Response(body, media_type="application/json", headers=kept)


def has(request: Request, tag: str) -> bool:
    """Whether the client says that it has what `tag` names (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    known = {part.strip().removeprefix("W/") for part in given.split(",")}
    return "*" in known or f'"{tag}"' in known
