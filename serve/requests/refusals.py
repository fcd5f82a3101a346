"""An engine's refusal in OpenAI's shape. vLLM's own is in it and stays as it is, byte for byte.

SGLang puts the same fields at the top; web frameworks say `{"detail": …}`, or something that is no
JSON at all.
"""

from typing import Any

import orjson

from serve.requests.transcript import as_object

_SHOWN = 500


def has_error(body: bytes) -> bool:
    """Whether it says what is wrong in OpenAI's or SGLang's shape."""
    said = as_object(body)
    return bool(said.get("error") or said.get("message"))


def words(body: bytes) -> str:
    """The message, in either shape; empty where there is none."""
    said = as_object(body)
    error = said.get("error")
    message = (error if isinstance(error, dict) else said).get("message")
    return message if isinstance(message, str) else ""


def in_openais_shape(status: int, body: bytes) -> bytes:
    """`{"error": {"message", "type", "param", "code"}}`; `body` itself where it has that."""
    said = as_object(body)
    if isinstance(said.get("error"), dict):
        return body
    words: Any = said.get("message") or said.get("error") or said.get("detail")
    error = {
        "message": words if isinstance(words, str) else body[:_SHOWN].decode(errors="replace"),
        "type": said.get("type") or "engine_error",
        "param": said.get("param"),
        "code": said.get("code") or status,
    }
    return orjson.dumps({"error": error})
