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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from hub.blobs import Blobs, Put, sync
from hub.disk import writing
from hub.errors import IntegrityError
from hub.filenames import require_free, require_plain_name
from hub.home import Home
from hub.manifest import FileEntry, Manifest, sha256_of_file
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
            IntegrityError: when a blob is missing or is not what its name says, or something else
                lies where the folder belongs.
            HubError: when the disk is full.
        """
        self.require_place(str(version))
        if self.folder(version).is_dir():
            return self.folder(version)
        with self.prepared(version.manifest, str(version)) as scratch:
            return self.place(scratch, version, card)

    @contextmanager
    def prepared(self, manifest: Manifest, where: str) -> Iterator[Path]:
        """A folder in scratch space with the files of a manifest, each compared with its hash.

        Raises:
            AdapterRejected: when a file's name leads elsewhere; `where` names the manifest.
            IntegrityError, HubError: as `materialise`.
        """
        scratch = self._home.scratch / secrets.token_hex(8)
        try:
            scratch.mkdir(parents=True)
            for entry in manifest.files:
                require_plain_name(entry.path, f"the manifest of {where}")
                self.blobs.fetch(entry, scratch / entry.path)
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def place(self, scratch: Path, version: Version, card: str) -> Path:
        """Make a prepared folder the version's, unless another process was first."""
        folder = self.folder(version)
        with writing(folder):
            (scratch / CARD).write_text(card, encoding="utf-8")
            for path in scratch.iterdir():
                path.chmod(0o444)
                sync(path)
            folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.rename(folder)
        except OSError:
            self.require_place(str(version))
            # Another process was first; what it made is the same.
            if not folder.is_dir():
                raise
        folder.chmod(0o555)
        sync(folder.parent)
        return folder

    def require_place(self, name: str, *, free: bool = False) -> None:
        """Raises IntegrityError when what lies where a version (`support@3`) has its folder is no
        folder, or is one although it should be `free`."""
        folder = self._home.adapters / name
        for path in (folder, *folder.parents):
            if path == self._home.adapters:
                return
            if path.is_symlink():
                what = "a link"
            elif path.exists() and not path.is_dir():
                what = "a file"
            elif free and path == folder and path.exists():
                what = "a folder that no version made"
            else:
                continue
            raise IntegrityError(
                f"{what} lies where the folder of {name} belongs",
                where=str(path),
                hint="Move it away: the folder is made from the stored files.",
            )

    def faults(
        self,
        version: Version,
        card: str | None,
        *,
        same: Callable[[Path, FileEntry], bool] | None = None,
    ) -> Iterator[IntegrityError]:
        """What is wrong in a materialised version, file by file: it holds the manifest's files and
        its card, all as they were made, and nothing else.

        Without a `card` the page is not read, which no engine does either. `same` compares a file
        that is there with its entry: by default its size and hash.
        """
        folder = self.folder(version)
        try:
            self.require_place(str(version))
        except IntegrityError as error:
            yield error
            return
        if not folder.is_dir():
            yield IntegrityError("the folder is missing", where=str(folder))
            return
        entries = {entry.path: entry for entry in version.manifest.files}
        present = {path.name for path in folder.iterdir()}
        expected = {*entries} | ({CARD} if card is not None else set())
        wrong = dict.fromkeys(present - {*entries, CARD}, "was not published")
        wrong |= dict.fromkeys(expected - present, "is missing")
        for name in sorted(present & expected):
            path = folder / name
            if path.is_symlink() or not path.is_file():
                wrong[name] = "is no plain file"
            elif name in entries:
                if not (same or _same)(path, entries[name]):
                    wrong[name] = f"is not what was published as {version}"
            elif path.read_bytes() != (card or "").encode():
                wrong[name] = f"is not the card of {version} as this release of Loom makes it"
        for name, words in sorted(wrong.items()):
            yield IntegrityError(
                f"the file {words}",
                where=str(folder / name),
                hint=f"`chmod -R u+w {folder} && rm -r {folder}`: it is made again from the stored"
                " files.",
            )

    def verify(self, version: Version, card: str | None = None) -> None:
        """Compare a materialised version with its manifest, byte for byte, and with its `card`.

        Raises:
            IntegrityError: naming the first file that is missing, differs or does not belong there.
        """
        for fault in self.faults(version, card):
            raise fault

    def copy_out(self, version: Version, card: str, folder: Path) -> None:
        """Copy a version's files, and its card, to `folder`, which is not there yet or is empty.

        Raises:
            Conflict: when something is there.
            IntegrityError: when a file is not what was published; nothing is left then.
            HubError: when the disk is full.
        """
        source = self.materialise(version, card)
        require_free(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        try:
            with writing(folder):
                scratch.mkdir()
                for entry in version.manifest.files:
                    path = source / require_plain_name(entry.path, f"the manifest of {version}")
                    if path.is_file():
                        shutil.copyfile(path, scratch / entry.path)
                    if not path.is_file() or not _same(scratch / entry.path, entry):
                        self.verify(version)  # says which, and what to do
                        raise IntegrityError("the file changed while it was read", where=str(path))
                (scratch / CARD).write_text(card, encoding="utf-8")
                for path in scratch.iterdir():
                    sync(path)
                scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def mend(self, version: Version, source: Path, card: str) -> int:
        """Put back what is missing or damaged of a version, from a folder with the same files.

        How many things were wrong: stored files, and the folder made from them.
        """
        with self.adding():
            put = [self.blobs.put(source / e.path, e) for e in version.manifest.files]
        mended = sum(what is not Put.KEPT for what in put)
        folder = self.folder(version)
        self.require_place(str(version))
        if not folder.is_dir() or next(self.faults(version, card), None) is None:
            return mended
        # It is made again from the blobs. Renamed first: a folder is whole or absent.
        self._home.scratch.mkdir(parents=True, exist_ok=True)
        gone = self._home.scratch / secrets.token_hex(8)
        folder.chmod(0o755)
        folder.rename(gone)
        shutil.rmtree(gone)
        return mended + 1

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        self._home.data.mkdir(parents=True, exist_ok=True)
        # Its own open file each time, so that threads of one process exclude each other too.
        with (self._home.data / "store.lock").open("ab") as lock:
            fcntl.flock(lock, kind)
            yield


def _same(path: Path, entry: FileEntry) -> bool:
    return path.stat().st_size == entry.size and sha256_of_file(path) == entry.sha256
