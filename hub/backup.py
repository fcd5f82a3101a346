"""`hub backup`: one tar with everything that a hub must not lose, written while it is in use.

The registry is copied by SQLite's backup API, which gives one moment of it however many processes
write. Then come exactly the blobs that this copy names, each compared with its hash on the way,
the bases that were built here, and the log of requests. No gc can run meanwhile, so nothing that
the copy names goes away. The file appears under its name when it is whole and on the disk.

    backup.json       what follows, each file with its sha256: an index that `hub restore` checks
    registry.db       one snapshot, without a write-ahead log
    interactions.db   unless left out
    bases/NAME/…      of bases built here
    blobs/SHA256

Absent on purpose: runs and engine logs, which no version needs, bases elsewhere, and increments:
blobs never change, so a backup tool that deduplicates keeps each once.
"""

import hashlib
import json
import secrets
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

from hub.blobs import sync
from hub.clock import now
from hub.database import open_database, open_snapshot, snapshot
from hub.errors import Conflict, HubError, IntegrityError, UsageError
from hub.home import Home
from hub.manifest import FileEntry, describe
from hub.migrations import interaction_migrations
from hub.registry import Registry
from hub.store import Store

FORMAT = 1
INDEX = "backup.json"
REGISTRY = "registry.db"
INTERACTIONS = "interactions.db"
BLOBS = "blobs"
BASES = "bases"


@dataclass(frozen=True)
class BackupIndex:
    """What a backup holds. `loom` is the version that wrote it, `counts` are for people, and
    `elsewhere` are the bases that are not in it, with their folders."""

    format: int
    loom: str
    made_at: str
    counts: dict[str, int]
    elsewhere: dict[str, str]
    files: tuple[FileEntry, ...]


def write_backup(
    registry: Registry, store: Store, file: Path, *, interactions: bool = True
) -> BackupIndex:
    """Write a backup of a hub that may be in use.

    Raises:
        UsageError: when the name is not one of a .tar or .tar.gz.
        Conflict: when there is such a file.
        IntegrityError: when a stored file is missing or damaged, naming it; no file is left.
        HubError: when the file can't be written.
    """
    mode = _mode(file)
    if file.exists():
        raise Conflict(
            "there is such a file", where=str(file), hint="Name another, or move it away."
        )
    part = file.with_name(f"{file.name}.part-{secrets.token_hex(4)}")
    try:
        with store.adding(), scratch_folder(registry.home) as scratch:
            index, sources = _collect(registry, store, scratch, interactions=interactions)
            with tarfile.open(part, mode) as tar:  # type: ignore[call-overload]
                _write(tar, index, sources, store, scratch)
            sync(part)
            part.rename(file)
            sync(file.parent)
    except OSError as error:
        raise HubError(
            f"the backup can't be written ({error.strerror or error})",
            where=str(file),
            hint="Check that the folder is there, writable and not full.",
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return index


def _mode(file: Path) -> str:
    if file.name.endswith((".tar.gz", ".tgz")):
        return "w:gz"
    if file.name.endswith(".tar"):
        return "w"
    raise UsageError(f"a backup is a tar, and '{file}' is not named like one", hint="FILE.tar[.gz]")


@contextmanager
def scratch_folder(home: Home) -> Iterator[Path]:
    """A new folder on the hub's own file system, removed after."""
    folder = home.scratch / secrets.token_hex(8)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _collect(
    registry: Registry, store: Store, scratch: Path, *, interactions: bool
) -> tuple[BackupIndex, dict[str, Path]]:
    """The index, and where each file but the blobs is read from."""
    home = registry.home
    sources = {REGISTRY: scratch / REGISTRY}
    registry.snapshot(sources[REGISTRY])
    with Registry(open_snapshot(sources[REGISTRY]), home) as copy:
        versions = copy.versions.all()
        bases = {base.name: Path(base.source) for base in copy.bases.all()}
    own = [folder for folder in bases.values() if folder.parent == home.bases]
    elsewhere = {name: str(folder) for name, folder in bases.items() if folder not in own}
    blobs = {entry.sha256: entry for version in versions for entry in version.manifest.files}
    counts = {"version": len(versions), "stored file": len(blobs), "base": len(own)}
    if interactions and home.interactions.is_file():
        sources[INTERACTIONS] = scratch / INTERACTIONS
        log = open_database(home.interactions, interaction_migrations)
        try:
            snapshot(log, sources[INTERACTIONS])
            counts["interaction"] = log.table("interactions").count
        finally:
            log.close()
    for folder in own:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                sources[f"{BASES}/{path.relative_to(home.bases).as_posix()}"] = path
    files = [describe(path, name) for name, path in sources.items()]
    files += [FileEntry(f"{BLOBS}/{sha}", sha, entry.size) for sha, entry in sorted(blobs.items())]
    loom = metadata.version("lora-loom")
    return BackupIndex(FORMAT, loom, now(), counts, elsewhere, tuple(files)), sources


def _write(
    tar: tarfile.TarFile, index: BackupIndex, sources: dict[str, Path], store: Store, scratch: Path
) -> None:
    text = json.dumps(asdict(index), indent=1).encode()
    head = tarfile.TarInfo(INDEX)
    head.size, head.mode = len(text), 0o644
    tar.addfile(head, BytesIO(text))
    for entry in index.files:
        with _opened(entry, sources, store, scratch) as stream:
            read = _Hashed(stream)
            info = tarfile.TarInfo(entry.path)
            info.size, info.mode = entry.size, 0o644
            tar.addfile(info, cast(BinaryIO, read))
            if read.sha256 != entry.sha256 or stream.read(1):
                raise IntegrityError(
                    "the file is damaged, or changed while it was copied",
                    where=str(stream.name),
                    hint="`hub doctor` says what is wrong and how to mend it.",
                )


@contextmanager
def _opened(
    entry: FileEntry, sources: dict[str, Path], store: Store, scratch: Path
) -> Iterator[BinaryIO]:
    fetched = scratch / entry.sha256
    if (path := sources.get(entry.path)) is None:
        if store.blobs.local:
            path = Path(store.blobs.where(entry.sha256))
        else:
            store.blobs.fetch(FileEntry(entry.path, entry.sha256, entry.size), fetched)
            path = fetched
    if not path.is_file() or path.stat().st_size < entry.size:
        raise IntegrityError(
            "the file is missing or cut short",
            where=str(path),
            hint="`hub doctor` says what is wrong and how to mend it.",
        )
    try:
        with path.open("rb") as stream:
            yield stream
    finally:
        fetched.unlink(missing_ok=True)


class _Hashed:
    """A stream that knows the hash of what was read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self._digest.update(data)
        return data

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()
