"""Files that a client sends before it publishes them: whole, with the right hash, or absent.

They lie in the hub's scratch space as `upload-<sha256>` until a publish takes them from there into
the store. What no publish takes (its client died) is half-written scratch like any other, and goes
with `hub gc`. A client asks first which files the hub has (`HEAD`), so known bytes never travel.

Whose key is limited to namespaces has uploads of its own, and of the store sees the files of its
own adapters only: else a hash alone would tell that somebody here has a file, and publish it.
"""

import asyncio
import hashlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hub.blobs import sync
from hub.errors import FilesMissing, HubError, InvalidData, StoreUnavailable
from hub.filenames import require_plain_name
from hub.home import Home
from hub.local import LocalHub
from hub.manifest import FileEntry
from hub.wire import UPLOADED
from serve.caller import Caller

# Enough at once to make the thread's switch cheap, and little beside an adapter.
_PIECE = 1 << 20


class Uploads:
    def __init__(self, home: Home, owner: str = "") -> None:
        self._home = home
        self._scratch = home.scratch
        self._owner = f"{owner}-" if owner else ""

    def of(self, caller: Caller) -> "Uploads":
        """Those that a caller may see."""
        return self if caller.namespaces is None else Uploads(self._home, caller.id)

    def size(self, hub: LocalHub, sha256: str) -> int | None:
        """Bytes of a file that the hub has, as an upload or in its store; None without it."""
        try:
            return self._path(sha256).stat().st_size
        except FileNotFoundError:
            return hub.store.blobs.size(sha256) if _may_know(hub, sha256) else None

    async def receive(self, sha256: str, pieces: AsyncIterator[bytes]) -> int:
        """Write a body to disk as it comes; returns its size in bytes.

        Raises:
            InvalidData: when it is not what its name says; nothing of it is kept then.
            StoreUnavailable: when the disk won't take it.
        """
        upload = _Upload(self._path(sha256))
        try:
            await asyncio.to_thread(upload.begin)
            waiting = bytearray()
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= _PIECE:
                    await asyncio.to_thread(upload.write, bytes(waiting))
                    waiting.clear()
            await asyncio.to_thread(upload.write, bytes(waiting))
            return await asyncio.to_thread(upload.finish, sha256)
        except OSError as error:
            raise StoreUnavailable(
                f"the hub's disk does not take the file ({error.strerror})",
                hint="Make room on the hub's machine (`hub gc` there), and publish again.",
            ) from error
        finally:
            upload.abandon()

    @contextmanager
    def folder(self, hub: LocalHub, files: Sequence[FileEntry]) -> Iterator[Path]:
        """The files side by side in a folder of their own, for as long as it takes to publish them.

        Raises:
            FilesMissing: naming what was not uploaded, or has been swept away since.
            InvalidData: when two files have one name.
            AdapterRejected: for a name that is no plain file name.
        """
        names = [require_plain_name(file.path, "the upload") for file in files]
        if len(set(names)) < len(names):
            # Besides, the first may lie there as a link to a blob, which nothing may write through.
            raise InvalidData("a file is named twice", where="the upload")
        self._scratch.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="publish-", dir=self._scratch))
        try:
            missing = [f.sha256 for f in files if not self._place(hub, f, folder)]
            if missing:
                raise FilesMissing(
                    f"{len(missing)} of {len(files)} files are not here",
                    missing=missing,
                    hint="Send each to PUT /hub/blobs/{sha256}, then publish again.",
                )
            with _hidden(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        for file in files:
            self._path(file.sha256).unlink(missing_ok=True)

    def _place(self, hub: LocalHub, file: FileEntry, folder: Path) -> bool:
        """A copy, not a link: what a check has seen must not be changed by a second upload."""
        try:
            shutil.copyfile(self._path(file.sha256), folder / file.path)
        except FileNotFoundError:
            if not (_may_know(hub, file.sha256) and hub.store.blobs.exists(file.sha256)):
                return False
            hub.store.blobs.fetch(file, folder / file.path)
        return True

    def _path(self, sha256: str) -> Path:
        return self._scratch / f"upload-{self._owner}{sha256}"


def _may_know(hub: LocalHub, sha256: str) -> bool:
    """Whether a file of the store is the caller's to know of."""
    registry = hub.registry
    return registry.fence.namespaces is None or registry.versions.names_file(sha256)


class _Upload:
    """One body on its way to `target`."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._part = target.with_name(f"{target.name}.{secrets.token_hex(8)}")
        self._hash = hashlib.sha256()

    def begin(self) -> None:
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._stream = self._part.open("xb")

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self._stream.write(data)

    def finish(self, sha256: str) -> int:
        size = self._stream.tell()
        self._stream.close()
        if self._hash.hexdigest() != sha256:
            raise InvalidData(
                f"these {size} bytes have the sha256 {self._hash.hexdigest()[:12]}…,"
                f" not {sha256[:12]}…",
                hint="The file changed while it was sent, or on its way: send it again.",
            )
        sync(self._part)
        self._part.replace(self._target)
        return size

    def abandon(self) -> None:
        """Leave nothing half-written; after `finish` there is nothing."""
        if hasattr(self, "_stream"):
            self._stream.close()
            self._part.unlink(missing_ok=True)


@contextmanager
def _hidden(folder: Path) -> Iterator[None]:
    """Errors speak of the client's folder: the server's is nothing that it could look into."""
    try:
        yield
    except HubError as error:
        for part in ("message", "where", "hint"):
            text = getattr(error, part)
            if text is not None:
                setattr(error, part, text.replace(str(folder), UPLOADED))
        raise
