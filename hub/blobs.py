"""Files by content: blobs named by their sha256, in a folder or a bucket, behind fsspec.

A blob is whole or absent: in a folder it is written in scratch space, synced, and renamed into its
place; a bucket shows an object only when all of it has arrived. What is stored and what is fetched
is compared with its name, so neither a changed file nor a flipped byte passes. Blobs lie as
`ab/abcdef…` under the store's root, in a bucket as in a folder, so one can be copied to the other.

Absent on purpose: deciding which blobs are needed (`hub.sweep` does), and credentials, which the
libraries behind fsspec read where their users expect it (AWS_…, ~/.aws, GOOGLE_…).
"""

import hashlib
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

from hub.disk import writing
from hub.errors import HubError, IntegrityError, MissingExtra, StoreUnavailable, UsageError
from hub.manifest import FileEntry, sha256_of_file

# Of a bucket's URL: the extra that speaks it.
_EXTRAS = {"s3": "s3", "gs": "gcs"}
_BUCKET = re.compile(r"(?P<scheme>s3|gs)://[A-Za-z0-9][A-Za-z0-9._-]*(?:/[^?#]*)?")
_NAME = re.compile(r"[0-9a-f]{64}")
# A bucket that can't be reached should say so before its user gives up.
_CONNECT_TIMEOUT_S = 10
_CHUNK = 1 << 20
_OWNER = "loom-hub"


@dataclass(frozen=True)
class Blob:
    """A stored file: sha256 in hex, size in bytes, when it was written."""

    sha256: str
    size: int
    modified: datetime


class Put(Enum):
    """What came of storing a file: it was new, it was there whole, or it was there damaged."""

    STORED = "stored"
    KEPT = "kept"
    MENDED = "mended"


def parse_store_url(text: str) -> str:
    """Where blobs can be kept: a folder's absolute path, `s3://bucket/prefix` or `gs://…`.

    Raises:
        UsageError: for any other URL.
    """
    if "://" not in text and "::" not in text:
        return str(Path(text).expanduser().resolve())
    if not _BUCKET.fullmatch(text):
        raise UsageError(
            f"blobs can't be kept in '{text}'",
            hint="Name a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX.",
        )
    return text.rstrip("/")


class Blobs:
    """The blobs under `url` (a folder's path, or a bucket's URL as `parse_store_url` gives it).

    `scratch` is a folder for half-written files, on the file system of a store that is a folder.
    """

    def __init__(self, url: str, scratch: Path) -> None:
        self.url = url
        self._scratch = scratch

    @property
    def local(self) -> bool:
        """Whether blobs are files that can be hard-linked."""
        return "://" not in self.url

    def where(self, sha256: str) -> str:
        """A blob's path or URL, for messages and for people."""
        return f"{self.url}/{sha256[:2]}/{sha256}"

    def owner(self) -> str | None:
        """The id of the hub that keeps its blobs here, None while there is none.

        Raises:
            StoreUnavailable: when the store is not there, refuses or can't be reached.
        """
        with self._asking():
            try:
                return str(self._fs.cat_file(f"{self._root}/{_OWNER}").decode().strip())
            except FileNotFoundError:
                if not self.local and not self._fs.exists(self._root.partition("/")[0]):
                    raise
                return None

    def claim(self, owner: str) -> None:
        """Write down whose blobs these are: with two hubs in one store, one's gc would take what
        the other needs."""
        with self._asking():
            if self.local:
                Path(self._root).mkdir(parents=True, exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{_OWNER}", f"{owner}\n".encode())

    def exists(self, sha256: str) -> bool:
        with self._asking():
            return bool(self._fs.exists(self._key(sha256)))

    def size(self, sha256: str) -> int | None:
        """Bytes of a blob, None when it is not there."""
        with self._asking():
            try:
                return int(self._fs.info(self._key(sha256))["size"])
            except FileNotFoundError:
                return None

    def put(self, path: Path, entry: FileEntry) -> Put:
        """Store the file that `entry` describes; a blob that is there whole is not sent again.

        Its size is no proof: the stored bytes are read, from a bucket too, and replaced where they
        are damaged. A version would stand on them otherwise that can never be served.

        Call it inside `Store.adding()`, so that no gc takes the blob before a version names it.

        Raises:
            IntegrityError: when the file has changed since it was described.
            StoreUnavailable: when the store refuses it or can't be reached.
            HubError: when the disk is full.
        """
        size = self.size(entry.sha256)
        if size == entry.size and not self.damaged(entry.sha256):
            return Put.KEPT
        scratch = self._scratch / secrets.token_hex(8)
        try:
            with self._asking():
                self._scratch.mkdir(parents=True, exist_ok=True)
            with writing(self._scratch):
                shutil.copyfile(path, scratch)
            if sha256_of_file(scratch) != entry.sha256:
                raise IntegrityError("the file changed while it was read", where=str(path))
            self._place(scratch, entry)
        finally:
            scratch.unlink(missing_ok=True)
        return Put.STORED if size is None else Put.MENDED

    def open(self, sha256: str) -> BinaryIO:
        """A blob's bytes, unchecked; the caller closes it. Raises IntegrityError when missing."""
        with self._asking():
            try:
                stream: BinaryIO = self._fs.open(self._key(sha256), "rb")
            except FileNotFoundError as error:
                raise self._missing(sha256) from error
        return stream

    def fetch(self, entry: FileEntry, target: Path) -> None:
        """Put a blob at `target`, which is not there yet: a hard link where that is possible.

        Raises:
            IntegrityError: when the blob is missing or is not what its name says, naming it;
                `target` is not there then.
            HubError: when the disk is full.
        """
        key = self._key(entry.sha256)
        with self._asking():
            try:
                with writing(target):
                    if not (self.local and _linked(Path(key), target)):
                        self._fs.get_file(key, str(target))
            except FileNotFoundError as error:
                target.unlink(missing_ok=True)
                raise self._missing(entry.sha256, entry.path) from error
        if sha256_of_file(target) != entry.sha256:
            target.unlink()
            raise IntegrityError(
                f"the stored file is damaged ({entry.path})",
                where=self.where(entry.sha256),
                hint="Publish the same files again, or restore a backup; it is never served so.",
            )

    def all(self) -> Iterator[Blob]:
        """Every blob, in the order of their names. Other files under the root are passed over."""
        with self._asking():
            try:
                found: dict[str, dict[str, Any]] = self._fs.find(self._root, detail=True)
            except FileNotFoundError:
                return
        for path, info in sorted(found.items()):
            *_, folder, name = ("", *path.split("/"))
            if _NAME.fullmatch(name) and folder == name[:2]:
                yield Blob(name, int(info["size"]), _modified(info))

    def delete(self, sha256: str) -> None:
        """Remove a blob; one that is not there is no error. Call it inside `Store.sweeping()`."""
        with self._asking():
            try:
                self._fs.rm_file(self._key(sha256))
            except FileNotFoundError:
                return

    def damaged(self, sha256: str) -> bool:
        """Whether a blob's bytes are not what its name says; raises IntegrityError when missing."""
        digest = hashlib.sha256()
        with self.open(sha256) as stream, self._asking():
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest() != sha256

    def _place(self, scratch: Path, entry: FileEntry) -> None:
        key = self._key(entry.sha256)
        if not self.local:
            with self._asking():
                self._fs.put_file(str(scratch), key)
            if self.size(entry.sha256) != entry.size:
                raise StoreUnavailable("the blob did not arrive", where=self.where(entry.sha256))
            return
        blob = Path(key)
        with self._asking(), writing(blob):
            scratch.chmod(0o444)
            sync(scratch)
            blob.parent.mkdir(parents=True, exist_ok=True)
            scratch.replace(blob)
            sync(blob.parent)

    def _key(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"

    @property
    def _root(self) -> str:
        return self.url.partition("://")[2] or self.url

    @cached_property
    def _fs(self) -> Any:
        # Imported here: it costs more than all the rest of `hub ls`, which reads no blob.
        from fsspec import filesystem  # type: ignore[import-untyped]

        scheme = "file" if self.local else self.url.partition("://")[0]
        # Listings that are cached would hide what another process has stored since.
        options: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if scheme == "s3":
            options["config_kwargs"] = {"connect_timeout": _CONNECT_TIMEOUT_S}
        # Its last resort is to print tracebacks of what is raised anyway.
        logging.getLogger("gcsfs").addHandler(logging.NullHandler())
        try:
            return filesystem(scheme, **options)
        except ImportError as error:
            extra = _EXTRAS[scheme]
            raise MissingExtra(
                f"this hub keeps its blobs in {self.url}, which the core can't read ({error})",
                hint=f"Install it: pip install 'lora-loom[{extra}]'.",
            ) from error

    def _missing(self, sha256: str, path: str = "") -> IntegrityError:
        named = f" ({path})" if path else ""
        return IntegrityError(
            f"the stored file is missing{named}",
            where=self.where(sha256),
            hint="Publish the same files again, or restore a backup.",
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """What a store's library raises, in plain words."""
        try:
            yield
        except HubError:
            raise
        except PermissionError as error:
            raise StoreUnavailable(
                f"the store refuses: {_reason(error)}",
                where=self.url,
                hint="Check the folder's permissions."
                if self.local
                else "Check its credentials and what they may do there.",
            ) from error
        except FileNotFoundError as error:
            raise StoreUnavailable(
                f"the store is not there: {_reason(error)}",
                where=self.url,
                hint="Check the bucket's name; `hub init --store` names another place.",
            ) from error
        except Exception as error:
            # fsspec passes on whatever its backends raise: botocore's and aiohttp's errors have no
            # common ancestor below this one, and no user should read their tracebacks.
            raise StoreUnavailable(
                f"the store can't be used: {_reason(error)}",
                where=self.url,
                hint="Check the network, the endpoint and the credentials.",
            ) from error


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _linked(blob: Path, target: Path) -> bool:
    """Whether a hard link could be made: not on all file systems, nor from one to another."""
    try:
        target.hardlink_to(blob)
    except FileNotFoundError:
        raise
    except OSError:
        return False
    return True


def _modified(info: dict[str, Any]) -> datetime:
    """When a file was written: backends spell it differently."""
    value = next(info[key] for key in ("mtime", "LastModified", "updated") if info.get(key))
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str):
        return datetime.fromisoformat(value).astimezone(UTC)
    return datetime.fromtimestamp(value, UTC)


def _reason(error: Exception) -> str:
    """The first line of an error's text, or its name where it says nothing."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
