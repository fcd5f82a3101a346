"""What an engine may read: a version's folder, leased and checked before it is handed out.

The order (lease, look, make) is the gateway's half of the agreement in `hub.leases`: what another
process deletes is either seen here or kept until it is put back.
"""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

from hub.errors import UnknownReference
from hub.home import Home
from hub.leases import Leases
from hub.names import AdapterRef, Number
from hub.publish import servable_folder
from hub.records import Version
from hub.registry import Registry
from hub.store import Store


class Shelf:
    """Any thread may take and put back; each take wants one `put_back`. Close it at the end."""

    def __init__(self, home: Home, store: Store, leases: Leases) -> None:
        self._store = store
        self._leases = leases
        # One connection for all threads: to open one costs more than all the rest of a take.
        self._registry = Registry.open(home, any_thread=True)
        self._lock = threading.Lock()

    def close(self) -> None:
        with self._lock:
            self._registry.close()

    def take(self, version: Version) -> Path:
        """The version's folder, which nobody removes until it is put back.

        Raises:
            UnknownReference: when it was deleted meanwhile.
            IntegrityError: when stored bytes are not what was published.
        """
        self._leases.take(version.digest)
        try:
            with self._lock:
                versions = self._registry.versions
                living = versions.find(version.adapter, version.digest)
                if living is None or living.number != version.number:
                    raise versions.unknown(AdapterRef(version.adapter, Number(version.number)))
            return servable_folder(self._store, version)
        except BaseException:  # whatever went wrong, nothing was handed out
            self._leases.let_go(version.digest)
            raise

    def find(self, engine_names: Iterable[str]) -> dict[str, Version]:
        """Those of the names that are versions of this hub, deleted ones too."""
        found: dict[str, Version] = {}
        with self._lock:
            for engine_name in engine_names:
                adapter, _, number = engine_name.partition("#")[0].rpartition("@")
                # No number that SQLite could not hold; one with a sign is not of our making.
                if number.isdecimal() and len(number) < 10:
                    with contextlib.suppress(UnknownReference):
                        version = self._registry.versions.ever(adapter, int(number))
                        if version.engine_name == engine_name:
                            found[engine_name] = version
        return found

    def put_back(self, version: Version) -> None:
        self._leases.let_go(version.digest)
