"""Removing versions: `hub rm` marks rows, `hub gc` marks what nothing reaches and frees the space.

The order makes it safe to die anywhere: rows are marked in one transaction (which also settles what
processes killed in COMMIT left: `hub.reach`), then folders go, then blobs. What is to go is never a
list that one gc works through: each looks anew at what living and leased versions need and removes
the rest, so what one left behind the next one takes, leftovers of interrupted publishes included.

gc holds the store's lock alone, so it can't take a blob from under a publish that has not named it
yet. That lock is always taken before SQLite's, here as in `hub.publish`. Gateways don't take it:
how they are protected is written in `hub.leases`.

Absent on purpose: moving bytes into a trash. A dry run says beforehand what would go, and a deleted
version's row, manifest and history stay.
"""

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hub import leases, reach
from hub.clock import stamp
from hub.errors import UsageError
from hub.facts import Removed, Swept
from hub.home import Home
from hub.names import parse_adapter_reference, parse_name
from hub.registry import Registry
from hub.store import Store
from hub.who import parse_reason

KEEP_DAYS = 30
_MOST_DAYS = 36_500
# Somebody may still be writing what lies in scratch space for less than this.
_SCRATCH_S = 3600
_VERSION_FOLDER = re.compile(r"[^@]+@\d+")


def remove(registry: Registry, reference: str, *, whole_adapter: bool, why: str) -> Removed:
    """Delete a version that no alias names, or by name an adapter with all that it has.

    Raises:
        Conflict: when aliases name the version.
        UnknownReference: when there is none.
        UsageError: when an adapter is to go without a reason, or is not named plainly.
    """
    if not whole_adapter:
        version = registry.resolve(parse_adapter_reference(reference))
        return Removed((str(version),), registry.reach.remove(version))
    parse_reason(why)
    if not why.strip():
        raise UsageError("removing an adapter wants a reason", hint="Add --why 'REASON'.")
    removed, size = registry.reach.remove_adapter(parse_name(reference), why=why)
    return Removed(tuple(removed), size)


def require_days(keep_days: float) -> None:
    """Raises UsageError unless it is a number of days that a calendar can go back."""
    if not 0 <= keep_days <= _MOST_DAYS:
        raise UsageError(f"{keep_days:g} is not a number of days", hint=f"0 to {_MOST_DAYS}.")


def sweep(registry: Registry, store: Store, *, keep_days: float, dry_run: bool) -> Swept:
    """Delete what nothing reaches. A dry run reports the same and changes nothing.

    `keep_days` is the window in which having been named or published keeps a version.

    Raises:
        UsageError: when it is not a number of days.
        StoreUnavailable: when the store of blobs can't be used.
    """
    require_days(keep_days)
    home = registry.home
    since = stamp(datetime.now(UTC) - timedelta(days=keep_days))
    with store.sweeping():
        if dry_run:
            judgement = registry.reach.judge(since=since, leased=leases.leased(home))
        else:
            with registry.writing():
                judgement = registry.reach.judge(since=since, leased=leases.leased(home))
                registry.reach.sweep(judgement.doomed)
        # Looked at again: a gateway may have taken one before it saw the mark.
        leased = leases.leased(home)
        without = judgement.doomed if dry_run else ()
        needed = registry.reach.needed(leased=leased, without=without)
        waste = list(_waste(registry, store, needed))
        if not dry_run:
            for item in waste:
                item.remove(home, store)
    kept = dict(judgement.kept)
    if waiting := registry.reach.deleted_but_leased(leased):
        kept[reach.LEASED_DELETED] = waiting
    return Swept(
        dry_run=dry_run,
        versions=tuple(judgement.doomed.values()),
        kept=kept,
        files=sum(item.files for item in waste),
        size=sum(item.size for item in waste),
    )


@dataclass(frozen=True)
class _Waste:
    """Something on disk that nobody needs: a blob by its sha256, or a path."""

    files: int
    size: int
    blob: str = ""
    path: Path = Path()

    def remove(self, home: Home, store: Store) -> None:
        if self.blob:
            store.blobs.delete(self.blob)
        elif self.path.is_dir():
            remove_folder(home, self.path)
        else:
            self.path.unlink(missing_ok=True)


def remove_folder(home: Home, folder: Path) -> None:
    """Remove a read-only folder: out of sight in one step first, then for good."""
    if folder.is_symlink():  # what it leads to is not ours
        folder.unlink()
        return
    home.scratch.mkdir(parents=True, exist_ok=True)
    gone = home.scratch / secrets.token_hex(8)
    # Moving a folder elsewhere rewrites its `..`, which wants the right to write it.
    folder.chmod(0o755)
    folder.rename(gone)
    shutil.rmtree(gone)


def _waste(registry: Registry, store: Store, needed: reach.Needed) -> Iterator[_Waste]:
    """What can go, folders before blobs."""
    home = registry.home
    for path in registry.files.orphans():
        yield _of_path(path)
    for folder in version_folders(home):
        if folder.relative_to(home.adapters).as_posix() not in needed.folders:
            yield _of_path(folder)
    for folder in leases.dead(home):
        yield _of_path(folder)
    for path in old_scratch(home, *store.scratch_elsewhere):
        yield _of_path(path)
    for blob in store.blobs.all():
        if blob.sha256 not in needed.blobs:
            yield _Waste(1, blob.size, blob=blob.sha256)


def version_folders(home: Home) -> Iterator[Path]:
    """Materialised versions, `support@3` and `acme/support@3`; other things are passed over."""
    for path in leases.entries(home.adapters):
        if not path.is_dir():
            continue
        if _VERSION_FOLDER.fullmatch(path.name):
            yield path
        else:
            yield from (p for p in leases.entries(path) if _VERSION_FOLDER.fullmatch(p.name))


def old_scratch(home: Home, *elsewhere: Path) -> Iterator[Path]:
    """What has lain half-written for so long that nobody is writing it any more."""
    for path in (path for folder in (home.scratch, *elsewhere) for path in leases.entries(folder)):
        newest = max((_modified(p) for p in (path, *path.rglob("*"))), default=0.0)
        if newest < time.time() - _SCRATCH_S:
            yield path


def _of_path(path: Path) -> _Waste:
    """What removing it frees: a hard link frees nothing while its blob is there."""
    if path.is_symlink():
        return _Waste(1, 0, path=path)
    files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
    own = [f.stat().st_size for f in files if f.stat().st_nlink == 1]
    return _Waste(max(len(own), 1), sum(own), path=path)


def _modified(path: Path) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0
