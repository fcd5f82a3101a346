"""Server-sent events: cut a byte stream into whole events, read their data, write new ones.

Events keep their exact bytes, so that what is passed on is what came.
"""

from collections.abc import AsyncIterator

import orjson

DONE = b"data: [DONE]\n\n"
# A stream of /v1/responses has names for its events. It ends with one of the first, and begins with
# some of the others, which an engine sends before it has done anything.
_RESPONSE_ENDS = tuple(
    b"event: response." + end for end in (b"completed", b"incomplete", b"failed")
)
_RESPONSE_OPENS = tuple(
    b"event: response." + state for state in (b"queued", b"created", b"in_progress")
)


async def events(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Whole events, each with the blank line that ends it; a half one at the end is dropped."""
    buffer = b""
    async for chunk in chunks:
        buffer += chunk
        while (end := _end_of_event(buffer)) > 0:
            yield buffer[:end]
            buffer = buffer[end:]
    if is_done(buffer):
        yield buffer


def data_of(event: bytes) -> bytes:
    """The event's data lines, joined; empty for comments and the like."""
    lines = (line for line in event.splitlines() if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)


def is_done(event: bytes) -> bool:
    return b"[DONE]" in event and data_of(event).strip() == b"[DONE]"


def is_last(event: bytes) -> bool:
    """Whether an answer is whole with this event."""
    return event.startswith(_RESPONSE_ENDS) or is_done(event)


def is_opening(event: bytes) -> bool:
    """Whether it says no more than that the request has arrived."""
    return event.startswith(_RESPONSE_OPENS)


def write(value: object, name: str | None = None) -> bytes:
    """An event with `value` as its data, under a name where the stream has names."""
    head = b"event: " + name.encode() + b"\n" if name else b""
    return head + b"data: " + orjson.dumps(value) + b"\n\n"


def _end_of_event(buffer: bytes) -> int:
    """Where the first whole event in the buffer ends; 0 when there is none."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := buffer.find(mark)) >= 0]
    return min(ends, default=0)
