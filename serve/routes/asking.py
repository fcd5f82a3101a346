"""Who asks, for the histories: the name of the API key, where the server wants keys.

Elsewhere it is what a client says of itself: a claim, exactly as trustworthy as the account name
that a command on this machine writes into the same history.
"""

from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Header

from hub.wire import WHO_HEADER
from serve.caller import caller

_LONGEST = 64


async def _who(
    claimed: Annotated[
        str, Header(alias=WHO_HEADER, description="Your name for the history, percent-encoded.")
    ] = "",
) -> str:
    if (key := caller.get().key) is not None:
        return key.name
    name = "".join(sign for sign in unquote(claimed) if sign.isprintable())[:_LONGEST].strip()
    return name or "unknown"


Who = Annotated[str, Depends(_who)]
