"""A hub's folder on this machine, answering `hub.operations`.

Every method is a line or two: it opens nothing and decides nothing, it asks the module whose
business the operation is and gives its records back.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from hub import sweep
from hub.basefiles import Unchanged
from hub.card import render_card
from hub.clock import parse_time
from hub.diff import diff
from hub.doctor import examine
from hub.evaluation.record import record_evaluation
from hub.facts import (
    AliasFacts,
    BaseFacts,
    Diff,
    Evaluated,
    EvaluationFacts,
    FileFacts,
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
from hub.home import Home
from hub.keys import read_public_keys
from hub.lineage import lineage, parents_of
from hub.names import AdapterRef, parse_adapter_reference, parse_name
from hub.origins import dataset_of
from hub.promotion import move_alias, protect, remove_alias, rollback
from hub.publish import Effect, MeasureEffect, publish_folder
from hub.records import AdapterSummary, AliasMove, Evaluation, Version
from hub.registry import Registry
from hub.store import Store
from hub.verify import verify


class LocalHub:
    """Open it with `LocalHub.open(home, …)`; it belongs to the thread that opened it.

    `measure_effect` runs the base model: what this package may not do itself.
    """

    def __init__(self, home: Home, registry: Registry, measure_effect: MeasureEffect) -> None:
        self.home = home
        self.registry = registry
        self._stores: dict[str, Store] = {}
        self._run_model = measure_effect
        self._unchanged = Unchanged()

    @classmethod
    def open(
        cls, home: Home, measure_effect: MeasureEffect, *, any_thread: bool = False
    ) -> "LocalHub":
        """Raises NoHome when there is no hub. `any_thread` as in `Registry.open`."""
        return cls(home, Registry.open(home, any_thread=any_thread), measure_effect)

    @property
    def store(self) -> Store:
        """Looked up each time: the blobs of a hub may be moved under a server that runs."""
        url = self.registry.store_url
        if url not in self._stores:
            self._stores = {url: Store(self.home, url)}
        return self._stores[url]

    def close(self) -> None:
        self.registry.close()

    def __enter__(self) -> "LocalHub":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- reading ----------------------------------------------------------------------------------

    def adapters(self) -> Iterator[AdapterSummary]:
        yield from self.registry.summaries()

    def versions(
        self, name: str, *, below: int | None = None, limit: int = -1
    ) -> Iterator[VersionFacts]:
        found = self.registry.versions.of(parse_name(name), below=below, limit=limit)
        yield from map(self._facts, found)

    def show(self, reference: str) -> VersionFacts:
        return self._facts(self._version(reference))

    def resolve(self, reference: str, *, at: str | None = None) -> Resolved:
        moment = parse_time(at) if at is not None else None
        version = self.registry.resolve(parse_adapter_reference(reference), at=moment)
        return Resolved(str(version), version.digest, version.deleted_at is not None)

    def history(self, name: str, alias: str | None = None) -> Iterator[AliasMove]:
        yield from (move for _, move in self.moves(name, alias))

    def moves(
        self, name: str, alias: str | None = None, *, below: int | None = None, limit: int = -1
    ) -> list[tuple[int, AliasMove]]:
        """As `history`, each with its place in it, which is what a page of it goes on below."""
        moves = self.registry.aliases.moves(parse_name(name), alias, below=below, limit=limit)
        if not moves and not self.registry.aliases.moves(name, limit=1):
            raise self.registry.versions.unknown(AdapterRef(name))
        return moves

    def aliases(self, name: str | None = None) -> list[AliasFacts]:
        if name is not None:
            self.registry.versions.of(parse_name(name))
        return self.registry.aliases.all(name)

    def lineage(self, reference: str) -> Lineage:
        return lineage(self.registry, reference)

    def diff(self, a: str, b: str) -> Diff:
        return diff(self.registry, self.store, a, b)

    def manifest(self, reference: str) -> str:
        return self._version(reference).manifest.to_json()

    def fetch(self, reference: str, folder: Path) -> VersionFacts:
        version = self._version(reference)
        self.store.copy_out(version, render_card(version), folder)
        return self._facts(version)

    def verify(
        self, reference: str | None, *, effect: bool = True, keys: Sequence[str] = ()
    ) -> Iterator[Verification]:
        trusted = [key for text in keys for key in read_public_keys(text)]
        measure = self._measure_effect if effect else None
        yield from verify(
            self.registry, self.store, reference, measure_effect=measure, keys=trusted
        )

    def doctor(self, *, quick: bool = False) -> list[Finding]:
        self.registry.fence.require_none("doctor")
        return examine(self.registry, self.store, quick=quick)

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
        unknown = self.registry.versions.unknown(AdapterRef(parse_name(name)))
        self.registry.fence.require(name, unknown)
        return publish_folder(
            self.registry,
            self.store,
            name,
            folder,
            base,
            measure_effect=self._measure_effect,
            lineage=lineage,
            manifest=manifest,
            signatures=signatures,
        )

    def promote(
        self, reference: str, alias: str, *, expect: int | None, force: bool, why: str
    ) -> AliasMove:
        return move_alias(
            self.registry,
            reference,
            alias,
            action="promote",
            expect=expect,
            force=force,
            why=why,
        )

    def set_alias(
        self, reference: str, alias: str, *, expect: int | None, force: bool, why: str
    ) -> AliasMove:
        return move_alias(
            self.registry, reference, alias, action="set", expect=expect, force=force, why=why
        )

    def rollback(self, name: str, *, to: int | None, why: str) -> AliasMove:
        return rollback(self.registry, name, to=to, why=why)

    def remove_alias(self, name: str, alias: str, *, why: str) -> AliasMove:
        return remove_alias(self.registry, name, alias, why=why)

    def protect(self, alias: str, *, protected: bool) -> list[str]:
        self.registry.fence.require_none("protecting an alias name")
        return protect(self.registry, alias, protected=protected)

    def remove(self, reference: str, *, whole_adapter: bool, why: str) -> Removed:
        return sweep.remove(self.registry, reference, whole_adapter=whole_adapter, why=why)

    def gc(self, *, keep_days: float, dry_run: bool) -> Swept:
        self.registry.fence.require_none("gc")
        return sweep.sweep(self.registry, self.store, keep_days=keep_days, dry_run=dry_run)

    def record_evaluation(self, reference: str, evaluation: Evaluated) -> EvaluationFacts:
        entry = record_evaluation(self.registry.ledger, self._version(reference), evaluation)
        return _evaluation(self.registry.fence.kept_evaluation(entry))

    def sign(self, reference: str, signature: SignatureFacts) -> VersionFacts:
        version = self._version(reference)
        self.registry.signatures.add(version, signature)
        return self._facts(version)

    # -- API keys ---------------------------------------------------------------------------------

    def keys(self) -> list[KeyFacts]:
        self.registry.fence.require_none("the list of API keys")
        return self.registry.keys.all()

    def create_key(self, wanted: KeyWanted) -> NewKey:
        self.registry.fence.require_none("making an API key")
        return self.registry.keys.create(wanted)

    def revoke_key(self, name_or_id: str) -> KeyFacts:
        self.registry.fence.require_none("revoking an API key")
        return self.registry.keys.revoke(name_or_id)

    # -- inside -----------------------------------------------------------------------------------

    def _measure_effect(self, base_source: str, folder: Path) -> Effect:
        """Measured on the base that was added: a base that was changed since is another model."""
        for base in self.registry.bases.all():
            if base.source == base_source:
                self._unchanged.require(base)
        return self._run_model(base_source, folder)

    def _version(self, reference: str) -> Version:
        return self.registry.resolve(parse_adapter_reference(reference))

    def _facts(self, version: Version) -> VersionFacts:
        fence = self.registry.fence
        version = fence.kept(version)
        identity = version.manifest.base
        named = self.registry.aliases.of(version.adapter)
        return VersionFacts(
            version=str(version),
            adapter=version.adapter,
            number=version.number,
            digest=version.digest,
            base=BaseFacts(
                name=version.base,
                revision=identity.revision,
                digest=version.base_digest,
                config_sha256=identity.config_sha256,
                tokenizer_sha256=identity.tokenizer_sha256,
                template_sha256=identity.template_sha256,
            ),
            rank=version.rank,
            size=version.size,
            files=tuple(FileFacts(f.path, f.sha256, f.size) for f in version.manifest.files),
            aliases=tuple(alias for alias, number in named.items() if number == version.number),
            published_by=version.published_by,
            published_at=version.published_at,
            lineage=version.lineage,
            evaluations=tuple(
                _evaluation(fence.kept_evaluation(entry))
                for entry in self.registry.ledger.evaluations(version)
            ),
            signatures=self.registry.signatures.of(version),
            folder=str(self.store.folder(version)),
            store=self.store.blobs.url,
            dataset=dataset_of(version.lineage),
            run=version.run_id,
            parents=parents_of(self.registry, version),
        )


def _evaluation(entry: Evaluation) -> EvaluationFacts:
    return EvaluationFacts(
        against=entry.against,
        dataset_digest=entry.dataset_digest,
        metric=entry.metric,
        verdict=entry.verdict,
        summary=str(entry.result["summary"]),
        at=entry.at,
    )
