"""Who asks: what a client says of itself, for the histories.

There are no API keys in this version, so it is a claim, exactly as trustworthy as the account name
that a command on this machine writes into the same history.
"""

from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Header

from hub.wire import WHO_HEADER

_LONGEST = 64


def _who(
    claimed: Annotated[
        str, Header(alias=WHO_HEADER, description="Your name for the history, percent-encoded.")
    ] = "",
) -> str:
    name = "".join(sign for sign in unquote(claimed) if sign.isprintable())[:_LONGEST].strip()
    return name or "unknown"


Who = Annotated[str, Depends(_who)]
