"""Reading a backup: every byte is compared with the index before anybody looks at it."""

import gzip
import hashlib
import json
import re
import tarfile
import zlib
from pathlib import Path
from typing import IO

from hub.backup import BASES, BLOBS, FORMAT, INDEX, INTERACTIONS, REGISTRY, BackupIndex
from hub.errors import HubError, IntegrityError
from hub.filenames import refused_path
from hub.manifest import FileEntry

_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Of an index with a million files.
_MOST_INDEX = 512 << 20


def unpack(file: Path, folder: Path) -> BackupIndex:
    """Unpack a backup into an empty folder, and give its index.

    Raises:
        IntegrityError: when the file is no backup, or not a whole one.
        HubError: when it is of a newer format.
    """
    try:
        with tarfile.open(file, "r:*") as tar:
            return _unpack(tar, folder)
    except IntegrityError as error:
        raise IntegrityError(error.message, where=str(file), hint=error.hint) from error
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise IntegrityError(
            f"not a whole backup: {error}", where=str(file), hint="Take another backup."
        ) from error


def _unpack(tar: tarfile.TarFile, folder: Path) -> BackupIndex:
    index = _index(tar)
    _require_safe(index)
    missing = {entry.path: entry for entry in index.files}
    for member in tar:
        if member.name == INDEX:
            continue
        entry = missing.pop(member.name, None)
        stream = tar.extractfile(member) if member.isreg() else None
        if entry is None or stream is None or member.size != entry.size:
            raise _damaged(f"{member.name!a} is not as its index says")
        _copy(stream, folder / entry.path, entry)
    if missing:
        raise _damaged(f"{next(iter(missing))} is missing")
    return index


def _index(tar: tarfile.TarFile) -> BackupIndex:
    first = tar.next()
    if first is None or first.name != INDEX or not first.isreg() or first.size > _MOST_INDEX:
        raise _damaged(f"it does not begin with {INDEX}")
    stream = tar.extractfile(first)
    assert stream is not None
    try:
        raw = json.loads(stream.read())
        if raw["format"] > FORMAT:
            raise HubError(
                f"the backup was made by a newer Loom ({raw['loom']})",
                hint="Upgrade it here: pip install --upgrade lora-loom.",
            )
        files = tuple(FileEntry(f["path"], f["sha256"], int(f["size"])) for f in raw["files"])
        return BackupIndex(
            raw["format"], raw["loom"], raw["made_at"], raw["counts"], raw["elsewhere"], files
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _damaged(f"{INDEX} can't be read") from error


def _require_safe(index: BackupIndex) -> None:
    """Only what a backup has, at places inside the folder that it is unpacked into."""
    paths = [entry.path for entry in index.files]
    for path in paths:
        top, *rest = path.split("/")
        fits = (
            (top in (REGISTRY, INTERACTIONS) and not rest)
            or (top == BLOBS and len(rest) == 1 and _SHA256.fullmatch(rest[0]))
            or (top == BASES and len(rest) > 1 and all(part not in ("", ".") for part in rest))
        )
        if refused_path(path) or not fits:
            raise _damaged(f"{path!a} is nothing that a backup has")
    if REGISTRY not in paths or len(set(paths)) != len(paths):
        raise _damaged("its index is not one of a registry")
    for entry in index.files:
        if entry.path.startswith(f"{BLOBS}/") and not entry.path.endswith(entry.sha256):
            raise _damaged(f"{entry.path} is not named by its hash")


def _copy(stream: IO[bytes], target: Path, entry: FileEntry) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with target.open("xb") as copy:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            copy.write(chunk)
    if digest.hexdigest() != entry.sha256:
        raise _damaged(f"{entry.path} does not have its hash")


def _damaged(what: str) -> IntegrityError:
    return IntegrityError(f"not a whole backup: {what}", hint="Take another backup.")
