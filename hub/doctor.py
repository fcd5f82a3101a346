"""`hub doctor`: look at every invariant of a hub, name it, and say how to mend it.

`broken` means that something is lost or wrong; `warning` that it costs room or needs a decision.
Nothing is changed here. While it looks, no gc runs; publishing and serving go on.

Absent on purpose: asking a gateway or an engine anything, and the publish gate (`hub verify`).
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from hub import leases
from hub.basefiles import changed
from hub.blobs import Blob
from hub.database import open_database
from hub.errors import BaseError, HubError
from hub.facts import Finding
from hub.home import Home
from hub.invariants import finding
from hub.ledger import process_lives
from hub.manifest import FileEntry, sha256_of_file
from hub.migrations import interaction_migrations
from hub.reach import Needed
from hub.records import Base, Version
from hub.registry import Registry
from hub.store import CARD, Store
from hub.sweep import old_scratch, version_folders

_LITTLE_ROOM = 1 << 30
# What can't be read can't be compared with files.
_READING = ("database", "manifests", "records")
_BLOB = "Restore a backup: `hub restore FILE --force`; or publish the same files again."


def examine(registry: Registry, store: Store, *, quick: bool = False) -> list[Finding]:
    """Every invariant, in a fixed order of names. `quick` compares files by size only."""
    home = registry.home
    findings = registry.check()
    if any(entry.check in _READING and entry.state == "broken" for entry in findings):
        return findings
    findings.append(_folder_of(registry))
    if findings[-1].state == "broken":
        return findings
    with store.adding():
        findings += _files(registry, store, quick=quick)
    findings.append(_leases(home))
    findings.append(_runs(registry))
    findings.append(_bases(registry, quick=quick))
    findings.append(_interactions(home))
    findings.append(_room(home))
    return findings


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
    home = registry.home
    versions = registry.versions.all()
    blobs = {blob.sha256: blob for blob in store.blobs.all()}
    named = {entry.sha256: (entry, v) for v in versions for entry in v.manifest.files}
    living = {store.folder(version): version for version in versions}
    made = [path for path in version_folders(home) if path in living]
    wrong = [
        problem
        for path in made
        for problem in _wrong_folder(path, living[path], store, blobs, quick=quick)
    ]
    how = "by size" if quick else "by hash"
    return [
        finding(
            "blobs",
            list(_wrong_blobs(store, blobs, named, quick=quick)),
            f"{len(named)} stored files are there, compared {how}",
        ),
        finding(
            "folders",
            wrong,
            f"{len(made)} folders hold what their manifests say, compared {how}",
        ),
        _leftovers(home, blobs, registry.reach.needed(leased=leases.leased(home))),
    ]


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


def _wrong_folder(
    folder: Path, version: Version, store: Store, blobs: dict[str, Blob], *, quick: bool
) -> Iterator[tuple[str, str]]:
    mend = f"`chmod -R u+w {folder} && rm -r {folder}`: it is made again from the stored files."
    entries = {entry.path: entry for entry in version.manifest.files}
    present = {path.name for path in folder.iterdir()}
    for name in sorted(present - entries.keys() - {CARD}):
        yield f"{folder / name} was not published", mend
    for name in sorted({*entries, CARD} - present):
        yield f"{folder / name} is missing", mend
    for name in sorted(present & entries.keys()):
        path, entry = folder / name, entries[name]
        # A hard link to a blob was looked at with the blob.
        blob = Path(store.blobs.where(entry.sha256))
        if store.blobs.local and entry.sha256 in blobs and path.samefile(blob):
            continue
        same = path.stat().st_size == entry.size
        if not same or not (quick or sha256_of_file(path) == entry.sha256):
            yield f"{path} is not what was published", mend


def _leftovers(home: Home, blobs: dict[str, Blob], needed: Needed) -> Finding:
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
        if run.status == "running" and not process_lives(run.pid)
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
    if not home.interactions.is_file():
        return Finding(name, "ok", "no request has been logged yet")
    problems = []
    mend = f"Restore a backup, or move {home.interactions} away: a new one is begun."
    try:
        db = open_database(home.interactions, interaction_migrations)
    except HubError as error:
        problems.append((error.message, error.hint or mend))
    else:
        with db.conn:
            answers = [str(row["quick_check"]) for row in db.query("PRAGMA quick_check")]
        problems += [(answer, mend) for answer in answers if answer != "ok"]
        db.close()
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
