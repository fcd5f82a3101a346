"""`hub doctor`: look at every invariant of a hub, name it, and say how to mend it.

`broken` means that something is lost or wrong; `warning` that it costs room or needs a decision.
Nothing is changed here. While it looks, no gc runs; publishing and serving go on.

Absent on purpose: asking a gateway or an engine anything, and the publish gate (`hub verify`).
"""

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from hub import leases
from hub.basefiles import changed
from hub.blobs import Blob
from hub.card import render_card
from hub.database import missing_tables, open_database
from hub.errors import BaseError, HubError, IntegrityError
from hub.facts import Finding
from hub.home import Home
from hub.invariants import finding
from hub.manifest import FileEntry, sha256_of_file
from hub.migrations import interaction_migrations
from hub.records import Base, Version
from hub.registry import Registry
from hub.run_state import run_state
from hub.store import CARD, Store
from hub.sweep import old_scratch, version_folders

_LITTLE_ROOM = 1 << 30
_BY_OTHERS = 0o022
# What can't be read can't be compared with files.
_READING = ("database", "manifests", "records")
_IN_THE_WAY = "Mend it, or move what lies there away, and look again."
_BLOB = "Restore a backup: `hub restore FILE --force`; or publish the same files again."


def examine(registry: Registry, store: Store, *, quick: bool = False) -> list[Finding]:
    """Every invariant, in a fixed order of names. `quick` compares files by size only."""
    home = registry.home
    findings = registry.check()
    readable = not any(f.check in _READING and f.state == "broken" for f in findings)
    if readable:
        findings.append(_looked("folder", lambda: _folder_of(registry)))
    if readable and findings[-1].state != "broken":
        findings += _files(registry, store, quick=quick)
    findings.append(_looked("leases", lambda: _leases(home)))
    if readable:
        findings.append(_looked("runs", lambda: _runs(registry)))
        findings.append(_looked("bases", lambda: _bases(registry, quick=quick)))
    findings.append(_looked("interactions", lambda: _interactions(home)))
    findings.append(_looked("room", lambda: _room(home)))
    return findings


def _looked(name: str, look: Callable[[], Finding]) -> Finding:
    """What one look finds, or what stopped it, so that all others are still taken."""
    try:
        return look()
    except (OSError, sqlite3.DatabaseError, HubError) as error:
        return _stopped(name, error)


def _stopped(name: str, error: Exception) -> Finding:
    mend = error.hint if isinstance(error, HubError) else None
    return Finding(name, "broken", str(error), mend or _IN_THE_WAY)


def _folder_of(registry: Registry) -> Finding:
    home = registry.home
    name, holds = "folder", "registry.db has its folder .hub, and both can be written"
    versions = sum(summary.versions for summary in registry.summaries())
    if versions and not home.data.is_dir():
        problem = (
            f"{versions} versions and no {home.data}: registry.db was copied without it",
            "Copy .hub too, or use `hub backup` and `hub restore`, which take both.",
        )
        return finding(name, [problem], holds)
    shut = [path for path in (home.root, home.registry, home.data) if not os.access(path, os.W_OK)]
    problems = [(f"{path} can't be written", "Give your account the right to.") for path in shut]
    return finding(name, problems, holds)


def _files(registry: Registry, store: Store, *, quick: bool) -> list[Finding]:
    """All while no gc runs."""
    with ExitStack() as stack:
        try:
            stack.enter_context(store.adding())
            blobs = {blob.sha256: blob for blob in store.blobs.all()}
        except (OSError, HubError) as error:
            return [_stopped("blobs", error)]
        return [
            _looked("blobs", lambda: _blobs(registry, store, blobs, quick=quick)),
            _looked("folders", lambda: _folders(registry, store, blobs, quick=quick)),
            _looked("cards", lambda: _cards(registry, store)),
            _looked("leftovers", lambda: _leftovers(registry, blobs)),
        ]


def _blobs(registry: Registry, store: Store, blobs: dict[str, Blob], *, quick: bool) -> Finding:
    named = {e.sha256: (e, v) for v in registry.versions.all() for e in v.manifest.files}
    holds = f"{len(named)} stored files are there, compared {_how(quick=quick)}"
    return finding("blobs", list(_wrong_blobs(store, blobs, named, quick=quick)), holds)


def _how(*, quick: bool) -> str:
    return "by size" if quick else "by hash"


def _wrong_blobs(
    store: Store,
    blobs: dict[str, Blob],
    named: dict[str, tuple[FileEntry, Version]],
    *,
    quick: bool,
) -> Iterator[tuple[str, str]]:
    for sha256, (entry, version) in named.items():
        what = f"{entry.path} of {version} ({store.blobs.where(sha256)})"
        if sha256 not in blobs:
            yield f"{what} is missing", _BLOB
        elif blobs[sha256].size != entry.size or (not quick and store.blobs.damaged(sha256)):
            yield f"{what} is damaged", _BLOB


def _folders(registry: Registry, store: Store, blobs: dict[str, Blob], *, quick: bool) -> Finding:
    def same(path: Path, entry: FileEntry) -> bool:
        # A hard link to a blob was looked at with the blob.
        blob = Path(store.blobs.where(entry.sha256))
        if store.blobs.local and entry.sha256 in blobs and path.samefile(blob):
            return True
        same_size = path.stat().st_size == entry.size
        return same_size and (quick or sha256_of_file(path) == entry.sha256)

    leases.entries(registry.home.adapters)  # says so where it is no folder
    made, problems = 0, []
    for version in registry.versions.all():
        folder = store.folder(version)
        try:
            store.require_place(str(version))
        except IntegrityError as error:
            problems.append((str(error), error.hint or _IN_THE_WAY))
            continue
        if folder.is_dir():
            made += 1
            for fault in store.faults(version, None, same=same):
                words = fault.message.removeprefix("the file ")
                problems.append((f"{fault.where} {words}", fault.hint or _IN_THE_WAY))
            if folder.stat().st_mode & _BY_OTHERS:
                mend = f"`chmod -R a-w {folder}`"
                problems.append((f"{folder} can be written by other accounts", mend))
    holds = f"{made} folders hold what their manifests say, compared {_how(quick=quick)}"
    return finding("folders", problems, holds)


def _cards(registry: Registry, store: Store) -> Finding:
    """A page that was overwritten, or made by another release of Loom. Nothing reads it but people,
    and what is pushed gets a new one."""
    problems = [
        (f"{card} is not the card of {version}", "It can stay: `hub push` writes a new one.")
        for version in registry.versions.all()
        if (card := store.folder(version) / CARD).parent.is_dir()
        and (not card.is_file() or card.read_bytes() != render_card(version).encode())
    ]
    return finding(
        "cards", problems, "every folder has its card as this release makes it", "warning"
    )


def _leftovers(registry: Registry, blobs: dict[str, Blob]) -> Finding:
    home = registry.home
    needed = registry.reach.needed(leased=leases.leased(home))
    orphans = [blob for sha256, blob in blobs.items() if sha256 not in needed.blobs]
    folders = [
        path
        for path in version_folders(home)
        if path.relative_to(home.adapters).as_posix() not in needed.folders
    ]
    scratch = list(old_scratch(home))
    mend = "`hub gc` frees them."
    problems = []
    if orphans:
        size = sum(blob.size for blob in orphans)
        problems.append((f"stored files that no version names: {len(orphans)}, {size} bytes", mend))
    if folders:
        problems.append((f"folders of deleted versions: {len(folders)}", mend))
    if scratch:
        problems.append((f"half-written things in {home.scratch}: {len(scratch)}", mend))
    return finding("leftovers", problems, "nothing lies about that no version needs", "warning")


def _leases(home: Home) -> Finding:
    gone, held = leases.dead(home), leases.leased(home)
    problem = (f"{len(gone)} gateways ended without clearing up", "`hub gc` clears up.")
    return finding(
        "leases", [problem] if gone else [], f"running gateways use {len(held)} versions", "warning"
    )


def _runs(registry: Registry) -> Finding:
    problems = [
        (f"{run.id} ({run.adapter}) was interrupted", f"`hub runs resume {run.id}`")
        for run in registry.ledger.runs()
        if run_state(run, registry.home) == "interrupted"
    ]
    return finding("runs", problems, "no training run was cut off", "warning")


def _bases(registry: Registry, *, quick: bool) -> Finding:
    """A base of our own that is gone is lost; one elsewhere may only be unplugged. One that was
    changed in place is another model, under every adapter that stands on it."""
    problems, lost = [], False
    for base in registry.bases.all():
        if Path(base.source).is_dir():
            if parts := _changed(base, quick=quick):
                lost = True
                mend = "Restore its files, or add it as another: `hub base add FOLDER --name NAME`."
                problems.append((f"the base '{base.name}' is not what was added: {parts}", mend))
            continue
        lost = lost or Path(base.source).is_relative_to(registry.home.data)
        mend = f"Put it back, or `hub base add FOLDER --name {base.name}`."
        problems.append((f"the base '{base.name}' is not at {base.source}", mend))
    return finding(
        "bases",
        problems,
        "every base is what was added, and where",
        "broken" if lost else "warning",
    )


def _changed(base: Base, *, quick: bool) -> str | None:
    """The weights are read whole, as fast as the disk allows; `quick` leaves it out."""
    if quick:
        return None
    try:
        parts = changed(base)
    except BaseError as error:
        return str(error)
    return f"its {parts} changed" if parts else None


def _interactions(home: Home) -> Finding:
    name, holds = "interactions", "the log of requests can be read"
    if not os.path.lexists(home.interactions):
        return Finding(name, "ok", "no request has been logged yet")
    mend = (
        "Restore a backup: `hub restore FILE --force`; or move"
        f" {home.interactions} away: a new one is begun."
    )
    if not home.interactions.is_file():
        return finding(name, [(f"{home.interactions} is no file", mend)], holds)
    try:
        db = open_database(home.interactions, interaction_migrations)
    except IntegrityError as error:
        return finding(name, [(str(error), mend)], holds)
    try:
        answers = [str(row["quick_check"]) for row in db.query("PRAGMA quick_check")]
        lost = missing_tables(db, interaction_migrations)
    except sqlite3.DatabaseError as error:
        answers, lost = [f"can't be read ({error})"], []
    finally:
        db.close()
    wrong = [answer for answer in answers if answer != "ok"]
    wrong += [f"table {table} is missing" for table in lost]
    problems = [(f"{home.interactions}: {words}", mend) for words in wrong]
    return finding(name, problems, holds)


def _room(home: Home) -> Finding:
    free = shutil.disk_usage(home.root).free
    problem = (f"{free / 1e6:.0f} MB are free", "`hub gc`, or make room on the disk.")
    return finding(
        "room",
        [problem] if free < _LITTLE_ROOM else [],
        f"{free / 1e9:.0f} GB are free on the disk",
        "warning",
    )
