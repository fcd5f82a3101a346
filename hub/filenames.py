"""File names from elsewhere: a folder, a tar, a repository, a manifest that somebody wrote.

A version's files lie side by side, so a plain name is all that one may have. Whatever could reach
outside the folder that it is written to is refused before anything is written.
"""

import re
from pathlib import Path

from hub.errors import AdapterRejected, Conflict

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def require_plain_name(name: str, where: str) -> str:
    """`name` itself if it can be a version's file.

    Raises:
        AdapterRejected: for an absolute path, `..`, a folder or odd characters, each in its words.
    """
    reason = refused_path(name) or (
        None if _PLAIN.fullmatch(name) else "is not a plain file name, as a version's files have"
    )
    if reason:
        raise AdapterRejected(f"{name!a} {reason}", check="files", where=where)
    return name


def require_free(folder: Path) -> None:
    """Raises Conflict unless nothing is at `folder`, or an empty folder."""
    taken = folder.is_symlink() or (folder.exists() and not folder.is_dir())
    if taken or (folder.is_dir() and any(folder.iterdir())):
        raise Conflict(
            "something is there already", where=str(folder), hint="Name a folder that is not there."
        )


def refused_path(path: str) -> str | None:
    """Why a path in a listing is dangerous, or None: it leads nowhere but below its folder."""
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path):
        return "is an absolute path"
    if ".." in re.split(r"[/\\]", path):
        return "leads out of its folder ('..')"
    if "\0" in path:
        return "holds a NUL character"
    return None
