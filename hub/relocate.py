"""Where a hub keeps its blobs: choosing the place, and moving there with what is stored already."""

import secrets
import tempfile
from pathlib import Path

from hub.blobs import parse_store_url
from hub.errors import Conflict
from hub.home import Home
from hub.manifest import FileEntry
from hub.registry import Registry
from hub.store import Store


def choose_store(home: Home, text: str) -> Store:
    """The store that a user names for a hub, which may not be made yet; nothing is written.

    Raises:
        UsageError: when blobs can't be kept there.
        StoreUnavailable: when it is not there, refuses or can't be reached.
        Conflict: when another hub keeps its blobs there.
    """
    url = parse_store_url(text)
    store = Store(home, "" if url == str(home.blobs) else url)
    ours = ""
    if home.exists():
        with Registry.open(home) as registry:
            ours = registry.store_owner
    _require_ours(store, ours)
    return store


def keep_blobs_in(registry: Registry, store: Store) -> int:
    """Keep a hub's blobs in another store from now on; how many were copied there.

    What was stored stays where it was too: a gateway that runs still looks for it there. A crash
    leaves the hub where it was; doing it again copies what is missing.

    Raises:
        Conflict: when another hub keeps its blobs there.
        IntegrityError: when a blob is damaged, naming it.
    """
    now = Store.of(registry)
    if store.blobs.url == now.blobs.url:
        return 0
    owner = registry.store_owner or secrets.token_hex(16)
    if store.blobs.url != str(registry.home.blobs) and not _require_ours(store, owner):
        # First here, then there: cut off in between, the hub still knows its own store again.
        registry.keep_blobs_at(registry.store_url, owner)
        store.blobs.claim(owner)
    copied = 0
    with now.sweeping(), tempfile.TemporaryDirectory(dir=_scratch(registry.home)) as scratch:
        for blob in now.blobs.all():
            entry, path = FileEntry(blob.sha256, blob.sha256, blob.size), Path(scratch) / "blob"
            now.blobs.fetch(entry, path)
            store.blobs.put(path, entry)
            path.unlink()
            copied += 1
        url = "" if store.blobs.url == str(registry.home.blobs) else store.blobs.url
        registry.keep_blobs_at(url, owner)
    return copied


def _require_ours(store: Store, owner: str) -> bool:
    """Whether the store is this hub's already; raises Conflict when it is another's."""
    found = store.blobs.owner()
    if found not in (None, owner):
        raise Conflict(
            "another hub keeps its blobs there",
            where=store.blobs.url,
            hint="Give each hub a prefix or folder of its own.",
        )
    return found is not None


def _scratch(home: Home) -> Path:
    home.scratch.mkdir(parents=True, exist_ok=True)
    return home.scratch
