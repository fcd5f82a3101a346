"""Files by content: blobs named by their sha256, and materialised folders made from them.

A blob is written beside its place, synced, and renamed into it, so it is whole or absent. A
version's folder is built in scratch space and renamed the same way; it can be made again from blobs
at any time, so only the registry's row decides whether a version exists. Both are read-only: the
folders outlive every engine that loaded them, because vLLM reads them again after its own eviction.
"""

import os
import secrets
import shutil
from pathlib import Path

from hub.errors import IntegrityError
from hub.home import Home
from hub.manifest import FileEntry, sha256_of_file
from hub.records import Version

CARD = "README.md"


class Store:
    def __init__(self, home: Home) -> None:
        self._home = home

    def put(self, path: Path, entry: FileEntry) -> None:
        """Store the file that `entry` describes; known content is not copied.

        Raises:
            IntegrityError: when the file has changed since it was described.
        """
        blob = self._blob(entry.sha256)
        if blob.exists():
            return
        blob.parent.mkdir(parents=True, exist_ok=True)
        scratch = self._scratch()
        shutil.copyfile(path, scratch)
        if sha256_of_file(scratch) != entry.sha256:
            scratch.unlink()
            raise IntegrityError("the file changed while it was read", where=str(path))
        scratch.chmod(0o444)
        _sync(scratch)
        scratch.replace(blob)
        _sync(blob.parent)

    def folder(self, version: Version) -> Path:
        """Where a version is materialised, whether it is yet or not."""
        return self._home.adapters / f"{version.adapter}@{version.number}"

    def materialise(self, version: Version, card: str) -> Path:
        """The version's read-only PEFT folder, made from blobs if it is not there yet.

        Raises:
            IntegrityError: when a blob is missing or is not what its name says.
        """
        folder = self.folder(version)
        if folder.is_dir():
            return folder
        scratch = self._scratch()
        scratch.mkdir()
        for entry in version.manifest.files:
            target = scratch / entry.path
            blob = self._verified_blob(entry, version)
            try:
                target.hardlink_to(blob)
            except OSError:  # a file system without hard links
                shutil.copyfile(blob, target)
        (scratch / CARD).write_text(card, encoding="utf-8")
        for path in scratch.iterdir():
            path.chmod(0o444)
            _sync(path)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.rename(folder)
        except OSError:
            # Another process was first; what it made is the same.
            if not folder.is_dir():
                raise
            shutil.rmtree(scratch)
        folder.chmod(0o555)
        _sync(folder.parent)
        return folder

    def verify(self, version: Version) -> None:
        """Compare a materialised version with its manifest, byte for byte.

        Raises:
            IntegrityError: naming the file that is missing or differs.
        """
        folder = self.folder(version)
        for entry in version.manifest.files:
            path = folder / entry.path
            if not path.is_file():
                raise IntegrityError("the file is missing", where=str(path), hint=_MEND)
            if path.stat().st_size != entry.size or sha256_of_file(path) != entry.sha256:
                raise IntegrityError(
                    f"the file is not what was published as {version}", where=str(path), hint=_MEND
                )

    def _verified_blob(self, entry: FileEntry, version: Version) -> Path:
        blob = self._blob(entry.sha256)
        if not blob.is_file():
            raise IntegrityError(
                f"the stored file of {version} ({entry.path}) is missing", where=str(blob)
            )
        if sha256_of_file(blob) != entry.sha256:
            raise IntegrityError(
                f"the stored file of {version} ({entry.path}) is damaged", where=str(blob)
            )
        return blob

    def _blob(self, digest: str) -> Path:
        return self._home.blobs / digest[:2] / digest

    def _scratch(self) -> Path:
        self._home.scratch.mkdir(parents=True, exist_ok=True)
        return self._home.scratch / secrets.token_hex(8)


_MEND = "Restore it from a backup; nothing damaged is ever served."


def _sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
