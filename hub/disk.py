"""When a disk takes no more: the operating system's error in plain words, in one place."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hub.errors import HubError

# Of the disk, of its user's share, and of the largest file that a process may write.
_FULL = {
    errno.ENOSPC: "no space is left on the disk",
    errno.EDQUOT: "the quota on the disk is used up",
    errno.EFBIG: "the file is larger than may be written here",
}


@contextmanager
def writing(place: Path | str) -> Iterator[None]:
    """Around whatever writes at `place`; the caller removes what is half written.

    Raises:
        HubError: when there is no room for it. Other errors pass.
    """
    try:
        yield
    except OSError as error:
        words = _FULL.get(error.errno or 0)
        if words is None:
            raise
        raise HubError(
            words,
            where=str(place),
            hint="Make room (`hub gc` removes what no version needs) or raise the limit"
            " (`ulimit -f`), and do it again: nothing is half done.",
        ) from error
