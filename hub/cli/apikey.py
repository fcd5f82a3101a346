"""The API key that commands send: `HUB_KEY`, or the first line of the file `HUB_KEY_FILE` names.

Never an option: what is written on a command line can be read by every account of the machine, and
stays in the shell's history.
"""

import os
from pathlib import Path

from hub.errors import UsageError

VARIABLE = "HUB_KEY"
FILE_VARIABLE = "HUB_KEY_FILE"


def key_from_environment() -> str | None:
    """None where none is set.

    Raises:
        UsageError: when the file can't be read, or what is given could not be a key.
    """
    key, where = os.environ.get(VARIABLE, "").strip(), VARIABLE
    if not key and (path := os.environ.get(FILE_VARIABLE)):
        try:
            # Never more than a key could be: whatever else the file is, none of it is sent.
            with Path(path).expanduser().open(encoding="ascii") as file:
                key, where = file.readline(1000).strip(), path
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not plain text"
            raise UsageError(f"the API key can't be read ({reason})", where=path) from error
    if not key:
        return None
    if not (key.isascii() and key.isprintable() and " " not in key):
        # Not shown: it may well be a key with something around it.
        raise UsageError(
            "what is there is no API key", where=where, hint="Write it as `hub keys create` did."
        )
    return key
