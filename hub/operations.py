"""What can be asked of a hub: one list of operations, the same for a folder here and an address.

`hub.local.LocalHub` does them on a hub's own folder, `hub.remote.RemoteHub` over the HTTP API that
`serve/routes/registry.py` makes of a LocalHub. Commands are written against this protocol alone.
Every operation raises the errors of `hub.errors`, over HTTP too.

Absent on purpose: what needs the folder itself (training, serving, restoring a backup).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from hub.facts import (
    AliasFacts,
    Diff,
    Evaluated,
    EvaluationFacts,
    Finding,
    KeyFacts,
    KeyWanted,
    Lineage,
    NewKey,
    Published,
    Removed,
    Resolved,
    SignatureFacts,
    Swept,
    Verification,
    VersionFacts,
)
from hub.records import AdapterSummary, AliasMove


class Operations(Protocol):
    # -- reading ----------------------------------------------------------------------------------

    def adapters(self) -> Iterator[AdapterSummary]:
        """Every adapter, by name."""

    def versions(self, name: str) -> Iterator[VersionFacts]:
        """An adapter's versions, newest first. Raises UnknownReference."""

    def show(self, reference: str) -> VersionFacts:
        """Raises UnknownReference, InvalidReference."""

    def resolve(self, reference: str, *, at: str | None = None) -> Resolved:
        """The exact version that a reference means now, or meant at a time (ISO 8601)."""

    def history(self, name: str, alias: str | None = None) -> Iterator[AliasMove]:
        """Every move of an adapter's aliases, newest first."""

    def aliases(self, name: str | None = None) -> list[AliasFacts]:
        """Of one adapter, or of all."""

    def lineage(self, reference: str) -> Lineage:
        """What a version came from and what came of it."""

    def diff(self, a: str, b: str) -> Diff:
        """What differs between two versions of one base."""

    def manifest(self, reference: str) -> str:
        """A version's canonical manifest: what its digest is of, and what is signed."""

    def fetch(self, reference: str, folder: Path) -> VersionFacts:
        """Copy a version's files (config, weights, card) into a folder that is not there yet, each
        compared with its hash; nothing is left when one differs."""

    # -- checking ---------------------------------------------------------------------------------

    def verify(
        self, reference: str | None, *, effect: bool = True, keys: Sequence[str] = ()
    ) -> Iterator[Verification]:
        """Run the publish gate's checks again on one version, or on all (None).

        `keys` are public keys (OpenSSH's line or PEM); with any, a signature by one of them is
        demanded as the check `signature`.
        """

    def doctor(self, *, quick: bool = False) -> list[Finding]:
        """Look at every invariant of the hub; `quick` compares files by size only."""

    # -- changing ---------------------------------------------------------------------------------

    def publish(
        self,
        name: str,
        folder: Path,
        *,
        base: str | None = None,
        lineage: dict[str, Any],
        manifest: str | None = None,
        signatures: Sequence[SignatureFacts] = (),
    ) -> Published:
        """Check a PEFT folder and make it the next version; raises AdapterRejected.

        `base` is a base's name or digest, None the default one. `lineage` may name a `parent`.
        What another hub has published brings its canonical `manifest`: with that the version keeps
        its digest, also where the base has another name here, and it finds its base by itself.
        Raises IntegrityError when the files are not those of the manifest, BadSignature.
        """

    def promote(
        self, reference: str, alias: str, *, expect: int | None, force: bool, why: str
    ) -> AliasMove:
        """Point an alias at a version. A protected alias wants the gate's PASS, or `force` and
        `why`. Raises GateRefused, AliasMoved, Conflict."""

    def rollback(self, name: str, *, to: int | None, why: str) -> AliasMove:
        """Point production at the version before, or at one that it named before."""

    def set_alias(
        self, reference: str, alias: str, *, expect: int | None, force: bool, why: str
    ) -> AliasMove:
        """As `promote`, for whatever alias; recorded as `set`."""

    def remove_alias(self, name: str, alias: str, *, why: str) -> AliasMove:
        """Raises Conflict for production, which can be moved but not removed."""

    def protect(self, alias: str, *, protected: bool) -> list[str]:
        """Protect an alias name in this hub, or stop to; returns all that are protected."""

    def remove(self, reference: str, *, whole_adapter: bool, why: str) -> Removed:
        """Delete a version that no alias names, or (by name) an adapter with all of its versions
        and aliases. Numbers stay used, history stays. Raises Conflict."""

    def gc(self, *, keep_days: float, dry_run: bool) -> Swept:
        """Remove what nothing reaches."""

    def record_evaluation(self, reference: str, evaluation: Evaluated) -> EvaluationFacts:
        """Keep an evaluation with a version: what the gate goes by. Raises InvalidData."""

    def sign(self, reference: str, signature: SignatureFacts) -> VersionFacts:
        """Keep a signature of a version's manifest; raises IntegrityError when it does not fit."""

    # -- API keys ---------------------------------------------------------------------------------

    def keys(self) -> list[KeyFacts]:
        """Every API key that ever was, oldest first; never a secret."""

    def create_key(self, wanted: KeyWanted) -> NewKey:
        """Make an API key; nobody can be told its secret again. Raises InvalidName, UsageError,
        Conflict."""

    def revoke_key(self, name_or_id: str) -> KeyFacts:
        """Revoke an API key for good. Raises NotFound."""
