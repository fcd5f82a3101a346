"""What both ends of the wire have to agree on, beside the records of `hub.facts`.

Errors above all: from the JSON that `HubError.to_openai` makes, the same error again. So whoever
asks a hub over HTTP, or another process over a pipe, gets the class, the words, the hint and the
exit code that asking here would have given.
"""

from collections.abc import Iterator
from typing import Any

from hub.errors import HubError

# Whom the histories name, percent-encoded.
WHO_HEADER = "x-hub-user"
# What a hub's refusals call the folder that it has put uploaded files in: its own path is nothing
# that the client could look into, and the client knows which folder it means.
UPLOADED = "<folder>"


def error_from(body: Any) -> HubError | None:
    """The error in an answer's body; None when this is not the body of a HubError."""
    error = body.get("error") if isinstance(body, dict) else None
    detail = error.get("detail") if isinstance(error, dict) else None
    if not isinstance(error, dict) or not isinstance(detail, dict):
        return None
    message, where, hint = (detail.get(part) for part in ("message", "where", "hint"))
    if not isinstance(message, str):
        return None
    # An error that only a newer Loom has is still told in its words.
    # Of classes with one code the first: those below it are some module's own.
    known = next((kind for kind in _kinds(HubError) if kind.code == error.get("code")), HubError)
    made = known.__new__(known)
    HubError.__init__(made, message, where=_text(where), hint=_text(hint))
    for name, part in detail.items():
        if name not in ("message", "where", "hint") and name.isidentifier():
            made.__dict__[name] = tuple(part) if isinstance(part, list) else part
    return made


def _kinds(kind: type[HubError]) -> Iterator[type[HubError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _kinds(below)


def _text(part: Any) -> str | None:
    return part if isinstance(part, str) else None
