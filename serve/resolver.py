"""From the text in `model` to what shall answer: the base, or one exact version.

Answers are kept as long as the registry has not changed (SQLite's `data_version`), so what another
process publishes, promotes or rolls back holds from the next request on. Only names that exist are
kept. The registry belongs to the event loop's thread; a lookup takes well under a millisecond.

The gateway itself never writes to the registry: its own writes would not move `data_version`.

A caller whose key is limited to namespaces is answered from behind a fence (`serve.views`): what
is outside is found, told and hinted at exactly as what was never published.
"""

from dataclasses import dataclass

from hub.errors import InvalidReference, UnknownReference, UsageError
from hub.names import AdapterRef, AutoRef, BaseRef, parse_reference
from hub.records import Base, Version
from hub.registry import Registry
from serve.caller import caller
from serve.signed import SignedOnly
from serve.views import Views

_CACHE_SIZE = 4096


@dataclass(frozen=True)
class Arm:
    """What answers a request: a version, or the base where `version` is None."""

    base: Base
    version: Version | None

    @property
    def public(self) -> str:
        """What the answer's `model` says: `support@3`, or the base's served name."""
        return str(self.version) if self.version else self.base.name

    @property
    def logged(self) -> str:
        """As interactions name it: `support@3`, or `base`."""
        return str(self.version) if self.version else "base"

    @property
    def adapter(self) -> str:
        """Whom it counts for, whichever version it is: `support`, or `base`."""
        return self.version.adapter if self.version else "base"

    @property
    def digest(self) -> str:
        return self.version.digest if self.version else self.base.digest


class Resolver:
    def __init__(self, views: Views, base: Base, signed: SignedOnly) -> None:
        self._registry = views.whole
        self._views = views
        self._base = base
        self._signed = signed
        self._known: dict[tuple[frozenset[str] | None, str], Arm] = {}
        self._data_version = views.whole.data_version()

    def resolve(self, model: str) -> Arm:
        """What `model` means now.

        Raises:
            UnknownReference: when it names nothing that this gateway can serve.
            InvalidReference: when it breaks the grammar.
            NotSigned: when only signed versions are served, and it is none.
            UsageError: for what the grammar has and the gateway does not serve yet.
        """
        data_version = self._registry.data_version()
        if data_version != self._data_version:
            self._known.clear()
            self._data_version = data_version
        key = (caller.get().namespaces, model)
        arm = self._known.get(key)
        if arm is None:
            arm = self._look_up(model)
            if len(self._known) >= _CACHE_SIZE:
                self._known.clear()
            self._known[key] = arm
        return arm

    def _look_up(self, model: str) -> Arm:
        if model == self._base.name:
            return Arm(self._base, None)
        reference = self._parse(model)
        if isinstance(reference, BaseRef):
            return Arm(self._base, None)
        if isinstance(reference, AdapterRef):
            return Arm(self._base, self._version(reference))
        what = "routing with 'auto'" if isinstance(reference, AutoRef) else "a composition"
        raise UsageError(
            f"{what} is not served yet", hint="Name the base or one adapter, like support@3."
        )

    def _parse(self, model: str) -> object:
        try:
            return parse_reference(model)
        except InvalidReference as error:
            if any(sign in model for sign in "@+*"):
                raise
            # A plain name outside the grammar (Qwen/Qwen3-0.6B, gpt-4o) is simply not here.
            shown = ascii(model[:80])
            raise UnknownReference(f"there is no model {shown}", hint=self._what_is()) from error

    def _version(self, reference: AdapterRef) -> Version:
        try:
            version = self._seen().resolve(reference)
        except UnknownReference as error:
            hint = " ".join(part for part in (error.hint, self._base_is()) if part)
            raise UnknownReference(error.message, hint=hint) from error
        if version.base_digest != self._base.digest:
            raise UnknownReference(
                f"{version} stands on the base '{version.base}', and this gateway serves "
                f"'{self._base.name}'",
                hint=f"Start one with `hub serve --base {version.base}`.",
            )
        self._signed.require(version)
        return version

    def _seen(self) -> Registry:
        return self._views.of(caller.get())

    def _what_is(self) -> str:
        names = [entry.name for entry in self._seen().summaries() if entry.newest is not None]
        shown = ", ".join(names[:20]) + (f" ({len(names)} in all)" if len(names) > 20 else "")
        adapters = f"There are the adapters: {shown}." if names else "No adapter is published yet."
        return f"{adapters}{self._seen().fence.hint} {self._base_is()}"

    def _base_is(self) -> str:
        return f"The base is 'base' or '{self._base.name}'."
