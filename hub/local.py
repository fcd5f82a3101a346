"""A hub's folder on this machine, answering `hub.operations`.

Every method is a line or two: it opens nothing and decides nothing, it asks the module whose
business the operation is and gives its records back.
"""

from collections.abc import Iterator
from types import TracebackType

from hub.clock import parse_time
from hub.facts import (
    BaseFacts,
    EvaluationFacts,
    FileFacts,
    Resolved,
    VersionFacts,
)
from hub.home import Home
from hub.names import parse_adapter_reference
from hub.publish import MeasureEffect
from hub.records import AdapterSummary, AliasMove, Version
from hub.registry import Registry
from hub.store import Store


class LocalHub:
    """Open it with `LocalHub.open(home, …)`; it belongs to the thread that opened it.

    `measure_effect` runs the base model: what this package may not do itself.
    """

    def __init__(self, home: Home, registry: Registry, measure_effect: MeasureEffect) -> None:
        self.home = home
        self.registry = registry
        self.store = Store(home)
        self._measure_effect = measure_effect

    @classmethod
    def open(cls, home: Home, measure_effect: MeasureEffect) -> "LocalHub":
        """Raises NoHome when there is no hub."""
        return cls(home, Registry.open(home), measure_effect)

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

    def versions(self, name: str) -> Iterator[VersionFacts]:
        yield from map(self._facts, self.registry.versions.of(name))

    def show(self, reference: str) -> VersionFacts:
        return self._facts(self._version(reference))

    def resolve(self, reference: str, *, at: str | None = None) -> Resolved:
        moment = parse_time(at) if at else None
        version = self.registry.resolve(parse_adapter_reference(reference), at=moment)
        return Resolved(str(version), version.digest)

    def history(self, name: str, alias: str | None = None) -> Iterator[AliasMove]:
        self.registry.versions.of(name)
        yield from self.registry.aliases.history(name, alias)

    def manifest(self, reference: str) -> str:
        return self._version(reference).manifest.to_json()

    # -- inside -----------------------------------------------------------------------------------

    def _version(self, reference: str) -> Version:
        return self.registry.resolve(parse_adapter_reference(reference))

    def _facts(self, version: Version) -> VersionFacts:
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
                EvaluationFacts(
                    against=entry.against,
                    dataset_digest=entry.dataset_digest,
                    metric=entry.metric,
                    verdict=entry.verdict,
                    summary=str(entry.result["summary"]),
                    at=entry.at,
                )
                for entry in self.registry.ledger.evaluations(version)
            ),
            signatures=(),
            folder=str(self.store.folder(version)),
        )
