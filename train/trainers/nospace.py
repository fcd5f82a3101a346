"""Whether an error says that a disk takes no more, whoever raises it.

Python says so by an error number; safetensors puts that number into its words; torch's writer only
says that it is not where it should be in the file.
"""

import errno
import re

from hub.errors import TrainingError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_IN_WORDS = re.compile(r"\(os error (\d+)\)")
_TORCHS_WRITER = ("inline_container.cc", "PytorchStreamWriter")


def is_no_space(error: BaseException | None) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    words = str(error)
    if found := _IN_WORDS.search(words):
        return int(found[1]) in _FULL
    return isinstance(error, RuntimeError) and any(name in words for name in _TORCHS_WRITER)


def no_space(where: str, error: BaseException) -> TrainingError:
    """What to tell instead; a file that an OSError names is where it happened."""
    file = error.filename if isinstance(error, OSError) else None
    return TrainingError(
        "the disk is full, or a limit on the size of files is reached",
        where=str(file or where),
        hint="Make room (`hub gc`, or `ulimit -f`), then resume the run: its whole checkpoints are"
        " kept.",
    )
