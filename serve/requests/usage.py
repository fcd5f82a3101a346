"""Counting a stream's tokens: the engine is asked for usage, and only who asked for it sees it.

vLLM (as OpenAI) sends the usage of a stream in one last chunk without choices, and only where the
request says `"stream_options": {"include_usage": true}`. So that is said for every stream of one
choice, and the chunk is kept back from a client that did not say it itself. It also moves vLLM's
`system_fingerprint` from the chunk with the finish reason into that last one, from where it is put
back; so the client's bytes are those that it would have got.

Absent on purpose: several choices. Each ends with a chunk of its own, long before the fingerprint
is known; such a stream is counted where its client asks for usage.
"""

import re
from typing import Any

import orjson

_KEY = "stream_options"
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')


def asking_for_usage(body: dict[str, Any]) -> dict[str, bytes]:
    """What to put into a body so that its stream ends with usage; empty where it does anyway, or
    where it is not a stream of one choice."""
    options = body.get(_KEY)
    if not _is_one_stream(body) or not isinstance(options, dict | None):
        return {}
    options = options or {}
    if options.get("include_usage"):
        return {}
    # Without include_usage vLLM ignores it; with it every chunk would carry usage.
    kept = {name: value for name, value in options.items() if name != "continuous_usage_stats"}
    return {_KEY: orjson.dumps({**kept, "include_usage": True})}


class UsageHidden:
    """A stream without the usage that its client did not ask for."""

    def __init__(self) -> None:
        self._held = b""
        self._wanted = False

    def seen(self, event: bytes, data: bytes) -> bytes:
        """What the client sees now that this event, with this data, has come."""
        chunk = _usage_chunk(data)
        if chunk is None:
            # Usage beside choices: the engine was started to send it to everybody.
            self._wanted = self._wanted or b'"usage":{' in data
            held, self._held = self._held, b""
            if _FINISHED.search(data):
                self._held = event
                return held
            return held + event
        if self._wanted:
            return self.rest() + event
        return _stamped(self.rest(), chunk.get("system_fingerprint"))

    def rest(self) -> bytes:
        """What it still has to see when nothing more comes."""
        held, self._held = self._held, b""
        return held


def _is_one_stream(body: dict[str, Any]) -> bool:
    return (
        body.get("stream") is True
        and body.get("n") in (None, 1)
        and not _are_several(body.get("prompt"))
    )


def _are_several(prompt: object) -> bool:
    """A list of prompts; a list of token ids is one prompt."""
    return isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)


def _usage_chunk(data: bytes) -> dict[str, Any] | None:
    if b'"usage"' not in data:
        return None
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    alone = isinstance(chunk, dict) and chunk.get("choices") == []
    return chunk if alone and isinstance(chunk.get("usage"), dict) else None


def _stamped(event: bytes, fingerprint: object) -> bytes:
    end = event.rfind(b"}")
    if not isinstance(fingerprint, str) or end < 0:
        return event
    return event[:end] + b',"system_fingerprint":' + orjson.dumps(fingerprint) + event[end:]
