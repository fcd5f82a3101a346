"""What an engine may read: a version's folder, leased and checked before it is handed out.

The order (lease, look, make) is the gateway's half of the agreement in `hub.leases`: what another
process deletes is either seen here or kept until it is put back.
"""

from pathlib import Path

from hub.home import Home
from hub.leases import Leases
from hub.names import AdapterRef, Number
from hub.publish import servable_folder
from hub.records import Version
from hub.registry import Registry
from hub.store import Store


class Shelf:
    """Any thread may take and put back; each take wants one `put_back`."""

    def __init__(self, home: Home, store: Store, leases: Leases) -> None:
        self._home = home
        self._store = store
        self._leases = leases

    def take(self, version: Version) -> Path:
        """The version's folder, which nobody removes until it is put back.

        Raises:
            UnknownReference: when it was deleted meanwhile.
            IntegrityError: when stored bytes are not what was published.
        """
        self._leases.take(version.digest)
        try:
            with Registry.open(self._home) as registry:
                living = registry.versions.find(version.adapter, version.digest)
                if living is None or living.number != version.number:
                    raise registry.versions.unknown(
                        AdapterRef(version.adapter, Number(version.number))
                    )
            return servable_folder(self._store, version)
        except BaseException:  # whatever went wrong, nothing was handed out
            self._leases.let_go(version.digest)
            raise

    def put_back(self, version: Version) -> None:
        self._leases.let_go(version.digest)
