"""Leases: what running gateways may still read, so that `hub gc` leaves it alone.

An engine reads a version's folder when it loads it, and again after its own evictions. So a
gateway holds a lease on a version's digest from before the load until after the unload, or the
engine's end. A gateway's leases are a folder, `.hub/leases/<random id>/`: one empty file for each
digest, and `lock`, which the gateway holds by flock. The lock goes with its process, however that
ends; a folder whose lock can be taken belongs to a dead gateway and counts for nothing.

The order on both sides is what makes it safe without a lock between them:

- the gateway writes its lease, then looks whether the version still lives in the registry, and only
  then makes or reads files;
- gc marks the version deleted, then looks at leases, and only then removes files.

Whichever comes first, one of both sees the other: either gc finds the lease and keeps the files, or
the gateway finds the version deleted and does not load it.

Absent on purpose: an expiry time. A lease that can run out under a slow engine protects nothing.
"""

import fcntl
import os
import secrets
import shutil
import threading
from collections import Counter
from pathlib import Path

from hub.errors import HubError, IntegrityError
from hub.home import Home

_LOCK = "lock"


class Leases:
    """One process's leases. Any thread may take and let go; what is taken twice is let go twice."""

    def __init__(self, folder: Path, lock: int) -> None:
        self._folder = folder
        self._lock = lock
        self._counting = threading.Lock()
        self._taken: Counter[str] = Counter()

    @classmethod
    def open(cls, home: Home) -> "Leases":
        """Raises HubError when the hub's folder can't be written."""
        name = secrets.token_hex(8)
        made = home.scratch / name
        try:
            made.mkdir(parents=True)
            home.leases.mkdir(exist_ok=True)
            lock = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Renamed into its place with the lock held: nobody ever sees it there unlocked.
            made.rename(home.leases / name)
        except OSError as error:
            raise _unwritable(home.data, error) from error
        return cls(home.leases / name, lock)

    def take(self, digest: str) -> None:
        """Note that a version's files are in use. Raises HubError when that can't be written."""
        with self._counting:
            try:
                (self._folder / digest).touch()
            except OSError as error:
                raise _unwritable(self._folder, error) from error
            self._taken[digest] += 1

    def let_go(self, digest: str) -> None:
        with self._counting:
            self._taken[digest] -= 1
            if self._taken[digest] <= 0:
                del self._taken[digest]
                (self._folder / digest).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of all."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def _unwritable(folder: Path, error: OSError) -> HubError:
    return HubError(
        f"the hub's folder can't be written ({error.strerror})",
        where=str(folder),
        hint="A gateway notes there which versions it uses, so that `hub gc` keeps them.",
    )


def leased(home: Home) -> set[str]:
    """The digests that living gateways hold now."""
    held: set[str] = set()
    for folder in _folders(home):
        if not _is_dead(folder):
            held.update(path.name for path in entries(folder) if path.name != _LOCK)
    return held


def dead(home: Home) -> list[Path]:
    """The folders that gateways left which are gone."""
    return [folder for folder in _folders(home) if _is_dead(folder)]


def _folders(home: Home) -> list[Path]:
    return [path for path in entries(home.leases) if path.is_dir()]


def entries(folder: Path) -> list[Path]:
    """Sorted; a gateway may end, and take its folder with it, while we look.

    Raises:
        IntegrityError: when it is no folder.
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    except NotADirectoryError as error:
        raise IntegrityError(
            "a file lies where a folder belongs", where=str(folder), hint="Move it away."
        ) from error


def _is_dead(folder: Path) -> bool:
    try:
        lock = os.open(folder / _LOCK, os.O_RDWR)
    except (FileNotFoundError, IsADirectoryError):  # no gateway holds a folder
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(lock)
    return True
