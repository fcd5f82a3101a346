"""What shall stay loaded, by reference: a name or an alias is followed wherever it points.

Absent on purpose: loading (`serve.warmth`), and keeping what was pinned over HTTP: a gateway that
starts anew has the pins of its command line.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hub.errors import Conflict, HubError, NotFound, UsageError
from hub.records import Version
from serve.resolver import Arm

_log = logging.getLogger(__name__)

Resolve = Callable[[str], Arm]


@dataclass(frozen=True)
class Pin:
    """`version` is None while the reference means none: deleted, say, or its signature gone."""

    reference: str
    version: Version | None


class Pins:
    """At most `most` references; one engine must hold them all, and others beside them.

    Raises, naming `where` each stands:
        UnknownReference, InvalidReference, NotSigned: as `Resolver.resolve`.
        UsageError: for the base, which is always there.
        Conflict: when there are more than `most`.
    """

    def __init__(
        self, resolve: Resolve, most: int, references: Sequence[str] = (), *, where: str = ""
    ) -> None:
        self._resolve = resolve
        self._most = most
        self._pins: dict[str, Pin] = {}
        for reference in references:
            try:
                self.add(reference)
            except HubError as error:
                error.where = f"{where} {reference}"
                raise

    def __contains__(self, reference: str) -> bool:
        return reference in self._pins

    def __iter__(self) -> Iterator[Pin]:
        return iter(list(self._pins.values()))

    def add(self, reference: str) -> Version:
        """Raises as the class, when it is pinned already nothing."""
        version = self._resolve(reference).version
        if version is None:
            raise UsageError(f"'{reference}' is the base, which needs no pin")
        if reference not in self._pins and len(self._pins) >= self._most:
            raise Conflict(
                f"only {self._most} can be pinned: one slot of an engine's --max-cpu-loras stays "
                "free, and one is for what is not pinned",
                hint="Give the engine more --max-cpu-loras, or pin less.",
            )
        self._pins[reference] = Pin(reference, version)
        return version

    def remove(self, reference: str) -> Pin:
        """Raises NotFound unless it is pinned by this very reference."""
        pin = self._pins.pop(reference, None)
        if pin is None:
            pinned = ", ".join(self._pins) or "nothing"
            raise NotFound(f"'{reference}' is not pinned", hint=f"Pinned: {pinned}.")
        return pin

    def look(self) -> bool:
        """Follow the references; whether any means something else than before."""
        changed = False
        for pin in self:
            try:
                version = self._resolve(pin.reference).version
            except HubError as error:
                version = None
                if pin.version is not None:
                    _log.warning("the pin '%s' holds nothing: %s", pin.reference, error)
            if version != pin.version:
                self._pins[pin.reference] = Pin(pin.reference, version)
                changed = True
        return changed

    def versions(self) -> list[Version]:
        """Each once."""
        return list({p.version.engine_name: p.version for p in self if p.version}.values())

    def of(self, version: Version) -> list[str]:
        """The references that pin a version."""
        name = version.engine_name
        return [pin.reference for pin in self if pin.version and pin.version.engine_name == name]
