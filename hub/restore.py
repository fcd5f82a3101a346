"""`hub restore`: a hub becomes what it was when `hub backup` wrote a file, or stays as it is.

All of the file is unpacked into scratch space and checked first: every hash against the index,
every row against its invariants. Then comes what harms nobody when it stops half-way: blobs that no
version names yet, bases, folders that can be made again. Last, one SQLite transaction gives the
live database its new contents, under servers that go on running and see it at their next request.
Killed at any moment, the registry is the old one or the new one.

What the present registry knows and the backup does not is gone, but for two things: version numbers
never go back, so none is used twice, and an API key that was revoked since stays revoked. The
databases that are replaced are kept in `.hub/backups`.

Absent on purpose: merging two registries (`hub pull` copies versions from another hub).
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from hub import leases
from hub.apikeys import carry_revocations
from hub.backup import BASES, BLOBS, INTERACTIONS, REGISTRY, BackupIndex, scratch_folder
from hub.blobs import sync
from hub.clock import now
from hub.database import missing_tables, open_database, replace_contents, snapshot
from hub.errors import Conflict, HubError, IntegrityError
from hub.home import Home
from hub.manifest import FileEntry, sha256_of_file
from hub.migrations import interaction_migrations, registry_migrations
from hub.numbers import carry_numbers
from hub.records import Version
from hub.registry import Registry
from hub.sqlite import Database, Migrations
from hub.store import Store
from hub.sweep import remove_folder, version_folders
from hub.unpack import unpack


@dataclass(frozen=True)
class Restored:
    """`saved` is the folder with the databases that were here before."""

    made_at: str
    counts: dict[str, int]
    saved: str | None


def restore(home: Home, file: Path, *, force: bool) -> Restored:
    """Put a backup in place of what is here.

    Raises:
        IntegrityError: when the file is no whole backup; nothing has changed then.
        Conflict: when a registry is here and `force` is not given, a running gateway uses a version
            that the backup has otherwise, or a base here has the name of another in the backup.
        HubError: when the backup is of a newer Loom, or the folder can't be written.
    """
    made = not home.data.exists()
    try:
        with scratch_folder(home) as scratch:
            index = unpack(file, scratch)
            with Store(home).sweeping():
                return _Restore(home, file, scratch, index, force).run()
    except OSError as error:
        raise HubError(
            f"the backup can't be restored ({error.strerror or error})",
            where=str(home.root),
            hint="Check that the folder is writable and its disk not full.",
        ) from error
    finally:
        if made and not home.exists():
            (home.data / "store.lock").unlink(missing_ok=True)
            with suppress(OSError):  # not empty: somebody else works here too
                home.scratch.rmdir()
                home.data.rmdir()


class _Restore:
    def __init__(
        self, home: Home, file: Path, scratch: Path, index: BackupIndex, force: bool
    ) -> None:
        self._home = home
        self._file = file
        self._scratch = scratch
        self._index = index
        self._force = force

    def run(self) -> Restored:
        live, damaged = self._present()
        try:
            self._require_force(live, damaged=damaged)
            versions, store_url = self._prepared(live)
            stale = list(self._stale_folders(versions, live))
            self._require_own_bases()
            saved = self._save(live, damaged=damaged)
            self._place_files(versions, Store(self._home, store_url), stale)
            self._place_interactions()
            self._place_registry(live)
        finally:
            if live is not None:
                live.close()
        return Restored(self._index.made_at, self._index.counts, str(saved) if saved else None)

    # -- looking ----------------------------------------------------------------------------------

    def _present(self) -> tuple[Database | None, bool]:
        """The registry that is here, open, if it can be read; and whether one can't."""
        if not self._home.exists():
            return None, False
        try:
            live = open_database(self._home.registry, registry_migrations, existing=True)
        except IntegrityError:
            return None, True
        try:
            whole = _is_whole(live) and not missing_tables(live, registry_migrations)
        except sqlite3.DatabaseError:
            whole = False
        if whole:
            return live, False
        live.close()
        return None, True

    def _require_force(self, live: Database | None, *, damaged: bool) -> None:
        used = live is not None and any(
            live.table(name).count for name in ("bases", "adapters", "datasets", "runs")
        )
        if (used or damaged) and not self._force:
            raise Conflict(
                "there is a registry here" + (", damaged" if damaged else ""),
                where=str(self._home.registry),
                hint="Add --force to replace it (it is saved beside first), or restore into an"
                " empty folder.",
            )

    def _prepared(self, live: Database | None) -> tuple[list[Version], str]:
        """Make the backup's registry what this one is to become; its versions and store."""
        self._require_readable_log()
        with closing(self._unpacked(REGISTRY, registry_migrations)) as db:
            new = Registry(db, self._home)
            broken = [f for f in new.check() if f.state == "broken"]
            if broken:
                raise IntegrityError(
                    f"the backup's registry is broken: {broken[0].message}",
                    where=str(self._file),
                    hint="Take another backup.",
                )
            versions = new.versions.all()
            listed = {entry.path for entry in self._index.files}
            for version in versions:
                for entry in version.manifest.files:
                    if f"{BLOBS}/{entry.sha256}" not in listed:
                        raise IntegrityError(
                            f"the backup lacks {entry.path} of {version}",
                            where=str(self._file),
                            hint="Take another backup.",
                        )
            carry_numbers(db, live, self._home)
            carry_revocations(db, live)
            if live is not None:
                # Where blobs are kept belongs to the place, not to what is restored into it.
                present = Registry(live, self._home)
                new.keep_blobs_at(present.store_url, present.store_owner)
            return versions, new.store_url

    def _unpacked(self, name: str, migrations: Migrations) -> Database:
        """A database of the backup. What is wrong with it is told of the backup's file."""
        try:
            return open_database(self._scratch / name, migrations, existing=True)
        except IntegrityError as error:
            raise IntegrityError(
                f"the backup's {name} is {error.message}",
                where=str(self._file),
                hint="Take another backup.",
            ) from error
        except HubError as error:
            raise HubError(
                f"the backup's {name}: {error.message}", where=str(self._file), hint=error.hint
            ) from error

    def _require_readable_log(self) -> None:
        if not self._entries(INTERACTIONS):
            return
        with closing(self._unpacked(INTERACTIONS, interaction_migrations)) as log:
            try:
                whole = _is_whole(log) and not missing_tables(log, interaction_migrations)
            except sqlite3.DatabaseError:
                whole = False
        if not whole:
            raise IntegrityError(
                f"the backup's {INTERACTIONS} is damaged",
                where=str(self._file),
                hint="Take another backup.",
            )

    def _stale_folders(self, versions: list[Version], live: Database | None) -> Iterator[Path]:
        """Materialised folders that will be another version's; they can be made again."""
        becoming = {str(version): version for version in versions}
        present = Registry(live, self._home).versions.all() if live is not None else []
        digests = {str(version): version.digest for version in present}
        held = leases.leased(self._home)
        for folder in version_folders(self._home):
            name = folder.relative_to(self._home.adapters).as_posix()
            version = becoming.get(name)
            if version is None or _holds(folder, version):
                continue
            if digests.get(name, "") in held or (held and name not in digests):
                raise Conflict(
                    f"a running gateway uses {name}, which is another version in the backup",
                    hint="Stop `hub serve`, restore, and start it again.",
                )
            yield folder

    def _require_own_bases(self) -> None:
        for entry in self._entries(BASES):
            name = Path(entry.path).parts[1]
            path = self._home.data / entry.path
            if (self._home.bases / name).exists() and not (
                path.is_file() and sha256_of_file(path) == entry.sha256
            ):
                raise Conflict(
                    f"the base '{name}' here is another than the one in the backup",
                    where=str(self._home.bases / name),
                    hint="Move its folder away first, if nothing here needs it.",
                )

    # -- changing ---------------------------------------------------------------------------------

    def _save(self, live: Database | None, *, damaged: bool) -> Path | None:
        """Copies of the databases that are about to be replaced."""
        if live is None and not damaged:
            return None
        folder = self._home.backups / now().replace(":", "").replace(".", "")
        folder.mkdir(parents=True)
        if live is not None:
            snapshot(live, folder / REGISTRY)
        else:
            for path in self._home.root.glob(f"{REGISTRY}*"):
                if path.is_dir():  # in the way of a database's own files
                    path.rename(folder / path.name)
                else:
                    shutil.copyfile(path, folder / path.name)
        if self._entries(INTERACTIONS) and self._home.interactions.exists():
            self._save_interactions(folder)
        for path in (*folder.iterdir(), folder, self._home.backups):
            sync(path)
        return folder

    def _save_interactions(self, folder: Path) -> None:
        try:
            log = open_database(self._home.interactions, interaction_migrations)
        except IntegrityError:  # damaged: as it is, and out of the way
            for path in self._home.data.glob(f"{INTERACTIONS}*"):
                shutil.move(path, folder / path.name)
            return
        with closing(log):
            snapshot(log, folder / INTERACTIONS)

    def _place_files(self, versions: list[Version], store: Store, stale: list[Path]) -> None:
        self._home.create()
        entries = {e.sha256: e for version in versions for e in version.manifest.files}
        for entry in entries.values():
            store.blobs.put(self._scratch / BLOBS / entry.sha256, entry)
        for name in {Path(entry.path).parts[1] for entry in self._entries(BASES)}:
            if not (self._home.bases / name).exists():
                (self._scratch / BASES / name).rename(self._home.bases / name)
        sync(self._home.bases)
        for folder in stale:
            remove_folder(self._home, folder)

    def _place_interactions(self) -> None:
        if not self._entries(INTERACTIONS):
            return
        fresh = self._scratch / INTERACTIONS
        open_database(fresh, interaction_migrations).close()
        if not self._home.interactions.exists():
            fresh.rename(self._home.interactions)
            return
        with closing(open_database(self._home.interactions, interaction_migrations)) as log:
            replace_contents(log, fresh)

    def _place_registry(self, live: Database | None) -> None:
        fresh = self._scratch / REGISTRY
        if live is not None:
            replace_contents(live, fresh)
            return
        sync(fresh)
        # A damaged registry's log must not be read into the new one.
        for suffix in ("-wal", "-shm"):
            self._home.registry.with_name(REGISTRY + suffix).unlink(missing_ok=True)
        fresh.replace(self._home.registry)
        sync(self._home.root)

    def _entries(self, below: str) -> list[FileEntry]:
        return [e for e in self._index.files if e.path.split("/")[0] == below]


def _is_whole(db: Database) -> bool:
    return [row["quick_check"] for row in db.query("PRAGMA quick_check")] == ["ok"]


def _holds(folder: Path, version: Version) -> bool:
    """Whether a folder is what the version's would be."""
    for entry in version.manifest.files:
        path = folder / entry.path
        if not path.is_file() or sha256_of_file(path) != entry.sha256:
            return False
    return True
