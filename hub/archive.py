"""A version's folder as one tar file: the same folder always gives the same bytes.

Reading trusts nothing: every member is looked at before the first byte is written, and only the
files that a version is made from are.
"""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import BinaryIO

from hub.adapterfile import CONFIG
from hub.blobs import sync
from hub.errors import AdapterRejected, InvalidData, TransferError
from hub.filenames import refused_path
from hub.parcel import sort_out

SUFFIXES = (".tar", ".tar.gz", ".tgz")


def write_tar(folder: Path, target: Path, *, top: str) -> None:
    """Write the files of `folder` as `<top>/…` into a tar, gzipped where its name says so.

    Sorted, with no time, owner or mode of this machine. It is written beside its place and renamed,
    so a file that was there is replaced by a whole one or not at all.

    Raises:
        TransferError: when it can't be written.
    """
    scratch = target.parent / f".{target.name}.{token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            scratch.open("xb") as raw,
            _compressed(raw, target) as stream,
            tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(folder.iterdir()):
                member = tarfile.TarInfo(f"{top}/{path.name}")
                member.size, member.mode = path.stat().st_size, 0o644
                with path.open("rb") as source:
                    tar.addfile(member, source)
        sync(scratch)
        scratch.replace(target)
        sync(target.parent)
    except OSError as error:
        raise TransferError(
            f"the tar can't be written ({error.strerror})", where=str(target)
        ) from error
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _compressed(raw: BinaryIO, target: Path) -> Iterator[BinaryIO]:
    if target.name.endswith(".tar"):
        yield raw
        return
    # Without name and time, which gzip would write into its header.
    with gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as stream:
        yield stream  # type: ignore[misc]  # file-like enough for tarfile


def read_tar(archive: Path, folder: Path) -> list[str]:
    """Take the adapter out of a tar into `folder`, which is empty; the names that were left out.

    The adapter may lie at the top or in one folder.

    Raises:
        InvalidData: when it is no readable tar.
        AdapterRejected: when a member is a link, a device or leads elsewhere, or it holds no
            adapter, or several; nothing has been written then.
    """
    try:
        with tarfile.open(archive) as tar:
            members = _plain_members(tar, str(archive))
            top = _adapter_folder(members, str(archive))
            inside = {path[len(top) :]: member for path, member in members.items()
                      if path.startswith(top)}  # fmt: skip
            wanted, left_out = sort_out(inside, str(archive))
            for name in wanted:
                source = tar.extractfile(inside[name])
                assert source is not None  # only plain files got through
                with source, (folder / name).open("xb") as target:
                    shutil.copyfileobj(source, target)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise InvalidData(
            f"not a whole tar file ({error})",
            where=str(archive),
            hint="Name a folder, or a tar that `hub push` or tar made.",
        ) from error
    return left_out


def _plain_members(tar: tarfile.TarFile, where: str) -> dict[str, tarfile.TarInfo]:
    """The files by their paths; raises AdapterRejected for any other kind of member."""
    found: dict[str, tarfile.TarInfo] = {}
    for member in tar:
        reason = refused_path(member.name)
        if member.issym() or member.islnk():
            reason = reason or f"is a {'symbolic' if member.issym() else 'hard'} link"
        elif not member.isfile() and not member.isdir():
            reason = reason or "is neither a file nor a folder"
        path = str(PurePosixPath(member.name))
        if path in found:
            reason = reason or "is in it twice"
        if reason:
            raise AdapterRejected(f"{member.name!a} {reason}", check="files", where=where)
        if member.isfile():
            found[path] = member
    return found


def _adapter_folder(members: dict[str, tarfile.TarInfo], where: str) -> str:
    """'' or 'folder/': where adapter_config.json lies."""
    holding = [path.removesuffix(CONFIG) for path in members if PurePosixPath(path).name == CONFIG]
    if "" in holding or not holding:
        return ""
    if len(holding) > 1:
        raise AdapterRejected(
            f"{len(holding)} adapters in one tar: {', '.join(sorted(holding))}",
            check="files",
            where=where,
            hint="Unpack it and pull the folder that you mean.",
        )
    return holding[0]
