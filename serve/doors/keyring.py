"""The API keys that let a request in, at the cost of a hash: SQLite is asked only whether anything
has changed (`data_version`), so a key that another process makes or revokes counts at the next
request.

What is closed stays closed: once this server has wanted keys, it goes on wanting them when the last
one is revoked or expires, and then refuses everybody. So does one that is started anew where there
was ever a key (`required`), unless somebody opens it on purpose.
"""

from hub.apikeys import ApiKey, recognise
from hub.clock import now
from hub.registry import Registry
from serve.caller import ANYBODY, Caller, no_key

_SCHEME = "bearer"


class Keyring:
    """Belongs to the event loop's thread, as the registry does, which must not write.

    With `required` keys are wanted although there may be none.
    """

    def __init__(self, registry: Registry, *, required: bool = False) -> None:
        self._registry = registry
        self._data_version: int | None = None
        self._keys: dict[str, ApiKey] = {}
        self._callers: dict[str, Caller] = {}
        self._closed = required
        self._look()

    @property
    def closed(self) -> bool:
        """Whether a key is wanted."""
        self._look()
        return self._closed

    @property
    def living(self) -> frozenset[str]:
        """The ids of those that are let in."""
        return frozenset(self._keys)

    def caller(self, authorization: str) -> Caller:
        """Who sends this header ('' for none).

        Raises:
            InvalidApiKey: whatever is wrong with it.
        """
        self._look()
        if not self._closed:
            return ANYBODY
        scheme, _, given = authorization.partition(" ")
        key = recognise(self._keys, given.strip() if scheme.lower() == _SCHEME else "")
        if key is None or (key.facts.expires_at is not None and key.facts.expires_at <= now()):
            raise no_key()
        return self._callers[key.facts.id]

    def _look(self) -> None:
        data_version = self._registry.data_version()
        if data_version == self._data_version:
            return
        self._data_version = data_version
        self._keys = self._registry.keys.living(self._keys)
        known = self._callers
        self._callers = {
            public: known[public]
            if public in known and known[public].key is key.facts
            else Caller.of(key.facts)
            for public, key in self._keys.items()
        }
        self._closed = self._closed or bool(self._keys)
