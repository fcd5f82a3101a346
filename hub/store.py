"""A hub's files: its blobs, and materialised folders made from them.

A version's folder is built in scratch space and renamed into place; it can be made again from blobs
at any time, so only the registry's row decides whether a version exists. Folders are read-only and
outlive every engine that loaded them, because vLLM reads them again after its own eviction. They
lie in the hub's home wherever the blobs are: hard links to them where both share a file system,
else copies.

A blob that no version names yet must survive until its version is committed: `adding` and
`sweeping` are one lock file, which the OS frees whenever a process dies.
"""

import fcntl
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hub.blobs import Blobs, sync
from hub.errors import IntegrityError
from hub.filenames import require_free, require_plain_name
from hub.home import Home
from hub.manifest import sha256_of_file
from hub.records import Version

if TYPE_CHECKING:
    from hub.registry import Registry

CARD = "README.md"


class Store:
    """`url` is where the blobs are: '' for the home's own folder, else as `hub.blobs` reads it."""

    def __init__(self, home: Home, url: str = "") -> None:
        self._home = home
        self._url = url

    @classmethod
    def of(cls, registry: "Registry") -> "Store":
        """The store of an open registry, which knows where its blobs are."""
        return cls(registry.home, registry.store_url)

    @cached_property
    def blobs(self) -> Blobs:
        scratch = next(iter(self.scratch_elsewhere), self._home.scratch)
        return Blobs(self._url or str(self._home.blobs), scratch)

    @property
    def scratch_elsewhere(self) -> tuple[Path, ...]:
        """Where blobs are half-written beside the home's own scratch space: in a folder that may be
        on another disk, where no rename from the home reaches."""
        return (Path(self._url) / ".scratch",) if self._url and "://" not in self._url else ()

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Held from the first blob put until the version that names it is committed.

        Any number of processes may add at once; a gc waits for them, and they for a gc.
        """
        with self._locked(fcntl.LOCK_SH):
            yield

    @contextmanager
    def sweeping(self) -> Iterator[None]:
        """Held while gc decides and deletes: alone, with nobody adding."""
        with self._locked(fcntl.LOCK_EX):
            yield

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
        self._home.scratch.mkdir(parents=True, exist_ok=True)
        scratch = self._home.scratch / secrets.token_hex(8)
        scratch.mkdir()
        try:
            for entry in version.manifest.files:
                require_plain_name(entry.path, f"the manifest of {version}")
                self.blobs.fetch(entry, scratch / entry.path)
            (scratch / CARD).write_text(card, encoding="utf-8")
            for path in scratch.iterdir():
                path.chmod(0o444)
                sync(path)
            folder.parent.mkdir(parents=True, exist_ok=True)
            try:
                scratch.rename(folder)
            except OSError:
                # Another process was first; what it made is the same.
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        folder.chmod(0o555)
        sync(folder.parent)
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

    def copy_out(self, version: Version, source: Path, folder: Path) -> None:
        """Copy a materialised folder to `folder`, which is not there yet or is empty.

        Raises:
            Conflict: when something is there.
            IntegrityError: when a copied file is not what was published; nothing is left then.
        """
        require_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        try:
            scratch.mkdir()
            for path in source.iterdir():
                shutil.copyfile(path, scratch / path.name)
            for entry in version.manifest.files:
                if sha256_of_file(scratch / entry.path) != entry.sha256:
                    raise IntegrityError(
                        f"the file is not what was published as {version}",
                        where=str(source / entry.path),
                        hint=_MEND,
                    )
            for path in scratch.iterdir():
                sync(path)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def mend(self, version: Version, source: Path) -> None:
        """Put back what is missing or damaged of a version, from a folder with the same files."""
        with self.adding():
            for entry in version.manifest.files:
                self.blobs.put(source / entry.path, entry, mend=True)
        folder = self.folder(version)
        if not folder.is_dir():
            return
        try:
            self.verify(version)
        except IntegrityError:
            # It is made again from the blobs. Renamed first: a folder is whole or absent.
            self._home.scratch.mkdir(parents=True, exist_ok=True)
            gone = self._home.scratch / secrets.token_hex(8)
            folder.chmod(0o755)
            folder.rename(gone)
            shutil.rmtree(gone)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        self._home.data.mkdir(parents=True, exist_ok=True)
        # Its own open file each time, so that threads of one process exclude each other too.
        with (self._home.data / "store.lock").open("ab") as lock:
            fcntl.flock(lock, kind)
            yield


_MEND = "Publish the same files again, or restore a backup; nothing damaged is ever served."
