"""What is kept of an answer that is no text: of vectors their usage, of small things the whole.

Embeddings of a batch are tens of megabytes. They are not parsed here, which would stop every other
request for as long: usage stands at their end, as vLLM writes them, and is read from there.
"""

from typing import Any

import orjson

from serve.requests.transcript import Transcript, as_object

# A list of scores is worth keeping, one of ten thousand tokens is not.
_WHOLE_MOST = 16 << 10
_USAGE = b'"usage":'


class Figures(Transcript):
    """Of every endpoint without a text; with `keep` it may be parsed, and is kept while small."""

    def __init__(self, *, keep: bool) -> None:
        super().__init__()
        self._keep = keep
        self._size = 0
        self._whole: dict[str, Any] | None = None

    def add_body(self, body: bytes) -> None:
        self._size = len(body)
        small = len(body) <= _WHOLE_MOST
        if small or self._keep:
            answer = as_object(body)
            # The engine's own name for the adapter is nobody's business.
            answer.pop("model", None)
            self._whole = answer if small and self._keep else None
            self._note(answer)
        else:
            self._note({"usage": _usage_at_the_end(body)})

    @property
    def response(self) -> str:
        if self._whole is not None:
            return orjson.dumps(self._whole).decode()
        return orjson.dumps({"bytes": self._size, "usage": self._usage}).decode()


def _usage_at_the_end(body: bytes) -> Any:
    """The last value of the outermost object, where that is its usage."""
    # No text follows the vectors, so this can only be the key.
    at = body.rfind(_USAGE)
    end = body.rfind(b"}")
    try:
        return orjson.loads(body[at + len(_USAGE) : end]) if 0 <= at < end else None
    except orjson.JSONDecodeError:
        return None
