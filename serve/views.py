"""The registry as callers may see it: whole, or behind a fence (`hub.fence`).

Both connections belong to the event loop's thread, and neither writes.
"""

from hub.registry import Registry
from serve.caller import Caller


class Views:
    """`fenced` is a connection of its own to the same registry as `whole`."""

    def __init__(self, whole: Registry, fenced: Registry) -> None:
        self.whole = whole
        self._fenced = fenced

    def of(self, caller: Caller) -> Registry:
        if caller.namespaces is None:
            return self.whole
        self._fenced.fence.put_up(caller.namespaces)
        return self._fenced
