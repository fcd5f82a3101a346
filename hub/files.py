"""Files as OpenAI's API knows them: what was uploaded to be trained on, and what jobs measured.

A file is a row, and its bytes at `.hub/files/<id>/`, under a name that training may tell of. The
bytes come first and go last, so a row always has them; what a crash leaves without a row is waste,
and `hub gc` takes it. A backup keeps the rows and not the bytes, as it keeps no runs: no version
needs them.

Whose API key is limited to namespaces sees what was sent with a key of the same limits, or narrower
ones, and the results of its adapters.
"""

import hashlib
import json
import os
import re
import secrets
import shutil
import string
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from hub.blobs import sync
from hub.clock import now
from hub.database import one, transaction
from hub.errors import InvalidParameter, StoreUnavailable, UnknownFile
from hub.fence import Fence
from hub.home import Home
from hub.sqlite import Database

Purpose = Literal["fine-tune", "fine-tune-results"]
MOST_FILES = 10_000

_SIGNS = string.ascii_lowercase + string.digits
_ENDINGS: dict[str, str] = {"fine-tune": ".jsonl", "fine-tune-results": ".csv"}
_UNPLAIN = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 80
_PIECE = 1 << 20
# Bytes without a row may be those of a file that is just being added.
_ORPHAN_S = 3600.0
_WITHIN = (
    "namespaces IS NOT NULL AND NOT EXISTS (SELECT 1 FROM json_each(namespaces)"
    " WHERE value NOT IN (SELECT namespace FROM temp.within))"
)
_IN_USE = (
    "EXISTS (SELECT 1 FROM jobs WHERE files.id IN (training_file, validation_file)"
    " AND status IN ('validating_files', 'queued', 'running', 'paused'))"
)


@dataclass(frozen=True)
class StoredFile:
    """`size` in bytes; `namespaces` None where a key without limits sent it."""

    id: str
    filename: str
    purpose: Purpose
    size: int
    sha256: str
    namespaces: tuple[str, ...] | None
    created_at: str
    expires_at: str | None


class Files:
    def __init__(self, db: Database, fence: Fence, home: Home, *, most: int = MOST_FILES) -> None:
        self._db = db
        self._fence = fence
        self._home = home
        self._most = most

    def add(
        self,
        stream: BinaryIO,
        filename: str,
        purpose: Purpose = "fine-tune",
        *,
        namespaces: Collection[str] | None,
        expires_at: str | None = None,
    ) -> StoredFile:
        """Keep what the stream holds, from where it is.

        Raises:
            InvalidParameter: when there are as many files as may be.
            StoreUnavailable: when the disk won't take it; nothing is kept then.
        """
        self.forget_expired()
        self._refuse_more(purpose)
        name = f"file-{''.join(secrets.choice(_SIGNS) for _ in range(24))}"
        try:
            size, sha256 = self._write(stream, self._place(name) / _plain(filename, purpose))
        except OSError as error:
            raise StoreUnavailable(
                f"the hub's disk does not take the file ({error.strerror or error})",
                hint="Make room on the hub's machine, and send it again.",
            ) from error
        try:
            with transaction(self._db):
                self._refuse_more(purpose)
                self._db.execute(
                    "INSERT INTO files (id, filename, purpose, size, sha256, namespaces,"
                    " created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [
                        name,
                        filename,
                        purpose,
                        size,
                        sha256,
                        None if namespaces is None else json.dumps(sorted(namespaces)),
                        now(),
                        expires_at,
                    ],
                )
        except BaseException:  # whatever it was: bytes without a row are nobody's
            self._remove(name)
            raise
        return self.get(name)

    def get(self, name: str) -> StoredFile:
        """Raises UnknownFile."""
        row = one(self._db, f"SELECT * FROM files WHERE id = ? AND {self._seen()}", name, now())
        if row is None:
            raise UnknownFile(f"no such file: {name[:80]!a}", hint="GET /v1/files lists them.")
        return _file(row)

    def all(
        self,
        *,
        after: str | None = None,
        limit: int = -1,
        newest_first: bool = True,
        purpose: str | None = None,
    ) -> list[StoredFile]:
        """In the order in which they came; of a long list, the next `limit` after a file.

        Raises:
            UnknownFile: for an `after` that is none.
        """
        sign, order = ("<", "DESC") if newest_first else (">", "ASC")
        if after is not None:
            after = self.get(after).id
        rows = self._db.query(
            f"SELECT * FROM files WHERE {self._seen()} AND (? IS NULL OR purpose = ?)"
            f" AND (? IS NULL OR number {sign} (SELECT number FROM files WHERE id = ?))"
            f" ORDER BY number {order} LIMIT ?",
            [now(), purpose, purpose, after, after, limit],
        )
        return [_file(row) for row in rows]

    def path(self, file: StoredFile) -> Path:
        """Where its bytes are. Raises UnknownFile when they are not, as after a restore."""
        path = self._place(file.id) / _plain(file.filename, file.purpose)
        if not path.is_file():
            raise UnknownFile(
                f"the bytes of {file.id} are gone", hint="A backup has no uploads: send it again."
            )
        return path

    def delete(self, name: str) -> None:
        """Raises UnknownFile, and InvalidParameter while a job that is not over needs it."""
        with transaction(self._db):
            file = self.get(name)
            if one(self._db, f"SELECT 1 FROM files WHERE id = ? AND {_IN_USE}", name):
                raise InvalidParameter(
                    f"{name} is used by a job that is not over",
                    param="id",
                    hint="Cancel the job first, or wait for it.",
                )
            self._db.execute("DELETE FROM files WHERE id = ?", [name])
        self._remove(file.id)

    def forget_expired(self) -> None:
        """Remove what has outlived its time, unless a job that is not over needs it."""
        expired = f"expires_at <= ? AND NOT {_IN_USE}"
        found = [_file(r) for r in self._db.query(f"SELECT * FROM files WHERE {expired}", [now()])]
        for file in found:
            with transaction(self._db):
                self._db.execute(f"DELETE FROM files WHERE {expired} AND id = ?", [now(), file.id])
            if one(self._db, "SELECT 1 FROM files WHERE id = ?", file.id) is None:
                self._remove(file.id)

    def orphans(self) -> Iterator[Path]:
        """Bytes that no row names, of files that were never whole or are deleted."""
        with suppress(FileNotFoundError):
            for path in sorted(self._home.files.iterdir()):
                known = one(self._db, "SELECT 1 FROM files WHERE id = ?", path.name)
                if known is None and path.lstat().st_mtime < time.time() - _ORPHAN_S:
                    yield path

    # -- inside -----------------------------------------------------------------------------------

    def _place(self, name: str) -> Path:
        return self._home.files / name

    def _remove(self, name: str) -> None:
        # What can't be removed now is without a row, which gc looks for.
        shutil.rmtree(self._place(name), ignore_errors=True)

    def _seen(self) -> str:
        """A condition with one place, for the time."""
        living = f"(expires_at IS NULL OR expires_at > ? OR {_IN_USE})"
        return living if self._fence.namespaces is None else f"{living} AND {_WITHIN}"

    def _refuse_more(self, purpose: Purpose) -> None:
        """Of uploads; a job that has ended is to have its results."""
        if purpose != "fine-tune":
            return
        # Of those that the caller sees: a count would tell of others.
        seen = self._db.execute(
            f"SELECT COUNT(*) FROM files WHERE purpose = 'fine-tune' AND {self._seen()}", [now()]
        )
        if seen.fetchone()[0] >= self._most:
            raise InvalidParameter(
                f"there are {self._most} files, which is as many as this hub keeps",
                param="file",
                hint="Delete some with DELETE /v1/files/{id}.",
            )

    def _write(self, stream: BinaryIO, place: Path) -> tuple[int, str]:
        """Size and sha256 of what is then whole at `place`."""
        found = hashlib.sha256()
        try:
            place.parent.mkdir(parents=True)
            with place.open("xb") as out:
                while piece := stream.read(_PIECE):
                    found.update(piece)
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
                size = out.tell()
            sync(place.parent)
        except BaseException:  # also Ctrl-C: half a file is nobody's
            shutil.rmtree(place.parent, ignore_errors=True)
            raise
        return size, found.hexdigest()


def _plain(filename: str, purpose: Purpose) -> str:
    """A name that is no path, has no odd characters, and the ending of what it is."""
    ending = _ENDINGS[purpose]
    stem = _UNPLAIN.sub("_", filename.removesuffix(ending)).lstrip("._-")
    return f"{stem[:_LONGEST_NAME] or 'file'}{ending}"


def _file(row: dict[str, Any]) -> StoredFile:
    namespaces = row["namespaces"]
    return StoredFile(
        id=row["id"],
        filename=row["filename"],
        purpose=row["purpose"],
        size=row["size"],
        sha256=row["sha256"],
        namespaces=None if namespaces is None else tuple(json.loads(namespaces)),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
    )
