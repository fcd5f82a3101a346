"""Server-sent events: cut a byte stream into whole events, read their data, write new ones.

Events keep their exact bytes, so that what is passed on is what came.
"""

from collections.abc import AsyncIterator

import orjson

DONE = b"data: [DONE]\n\n"


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


def write(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


def _end_of_event(buffer: bytes) -> int:
    """Where the first whole event in the buffer ends; 0 when there is none."""
    ends = [at + len(mark) for mark in (b"\n\n", b"\r\n\r\n") if (at := buffer.find(mark)) >= 0]
    return min(ends, default=0)
