"""The family tree of a version: what it came from, and what came of it.

Up: base, data set, run, the place that it was pulled from, and parents with theirs. Down: versions
continued or composed from it, with theirs. Deleted versions stay in the tree, marked. A version
that is met again (compositions share parents) is named without its branch, and branches are cut
after GENERATIONS, so that a tree is never larger than a person or a stack can take.
"""

from hub.errors import UnknownRun
from hub.facts import Lineage, LineageNode, ParentFacts
from hub.names import Number, parse_adapter_reference
from hub.origins import dataset_of, lint_summary, number, origin_of, part, text
from hub.records import Base, Kin, Version
from hub.registry import Registry

GENERATIONS = 30

_UP = {"continued": "continued from", "composed": "composed of"}
_DOWN = {"continued": "continued as", "composed": "composed into"}


def lineage(registry: Registry, reference: str) -> Lineage:
    """Both ways from a version; one named by its number may have been deleted.

    Raises:
        UnknownReference, InvalidReference: as for any reference.
    """
    parsed = parse_adapter_reference(reference)
    if isinstance(parsed.selector, Number):
        version = registry.versions.ever(parsed.name, parsed.selector.value)
    else:
        version = registry.resolve(parsed)
    tree = _Tree(registry)
    base = registry.bases.get(version.base)
    return Lineage(
        version=str(version),
        digest=version.digest,
        ancestors=(_base(base, version), *tree.above(version, {version.id}, GENERATIONS)),
        descendants=tree.below(version, {version.id}, GENERATIONS),
        deleted=version.deleted_at is not None,
    )


def parents_of(registry: Registry, version: Version) -> tuple[ParentFacts, ...]:
    """As the registry knows them, else as the version's lineage names one that is not here."""
    found = tuple(
        ParentFacts(
            version=str(kin.version),
            digest=kin.version.digest,
            relation=kin.relation,
            weight=kin.weight,
            deleted=kin.version.deleted_at is not None,
        )
        for kin in registry.versions.parents(version)
    )
    version = registry.fence.kept(version)
    named = text(version.lineage, "parent")
    if found or not named:
        return found
    digest = text(version.lineage, "parent_digest")
    return (ParentFacts(named, digest, "continued", here=False),)


class _Tree:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def above(self, version: Version, seen: set[int], left: int) -> tuple[LineageNode, ...]:
        """Data set, run, source and parents of a version."""
        kin = self._registry.versions.parents(version)
        nodes = [*self._made_of(version)]
        if kin and not left:
            return (*nodes, _MORE)
        nodes += [self._kin(one, _UP, seen, left, up=True) for one in kin]
        if not kin:
            nodes += [_absent(parent) for parent in parents_of(self._registry, version)]
        return tuple(nodes)

    def below(self, version: Version, seen: set[int], left: int) -> tuple[LineageNode, ...]:
        """Versions that were continued or composed from one."""
        kin = self._registry.versions.children(version)
        if kin and not left:
            return (_MORE,)
        return tuple(self._kin(one, _DOWN, seen, left, up=False) for one in kin)

    def _kin(
        self, kin: Kin, words: dict[str, str], seen: set[int], left: int, *, up: bool
    ) -> LineageNode:
        version = kin.version
        relation = words[kin.relation] + (f", weight {kin.weight}" if kin.weight else "")
        facts = [f"sha256:{version.digest[:12]}", version.published_at[:10]]
        children: tuple[LineageNode, ...] = ()
        if version.deleted_at:
            facts.append(f"deleted {version.deleted_at[:10]}")
        if version.id in seen:
            facts.append("shown above")
        else:
            seen.add(version.id)
            step = self.above if up else self.below
            children = step(version, seen, left - 1)
        return LineageNode(
            "version",
            str(version),
            relation,
            ", ".join(facts),
            children,
            deleted=version.deleted_at is not None,
        )

    def _made_of(self, version: Version) -> list[LineageNode]:
        nodes = []
        dataset = dataset_of(version.lineage)
        if dataset is not None:
            rows = "? rows" if dataset.rows is None else f"{dataset.rows} rows"
            facts = f"{rows}, sha256:{dataset.digest[:12]}, lint: {lint_summary(dataset.lint)}"
            nodes.append(LineageNode("dataset", dataset.name, "trained on", facts))
        if version.run_id is not None:
            nodes.append(self._run(version, version.run_id))
        elif run_id := text(version.lineage, "run"):
            nodes.append(LineageNode("run", run_id, "made by", "not in this hub"))
        if origin := origin_of(version.lineage):
            nodes.append(LineageNode("source", origin, "pulled from", ""))
        return nodes

    def _run(self, version: Version, run_id: str) -> LineageNode:
        try:
            run = self._registry.ledger.run(run_id)
        except UnknownRun:  # a row that is gone, which `hub doctor` tells of
            return LineageNode("run", run_id, "made by", "no longer known")
        seconds = number(part(version.lineage, "metrics"), "seconds")
        commit = text(version.lineage, "git_commit")
        facts = [
            run.method,
            run.started_at[:10],
            *([f"{seconds:.0f} s"] if seconds is not None else []),
            *([f"commit {commit[:12]}{'+dirty' if commit.endswith('+dirty') else ''}"]
              if commit else []),
        ]  # fmt: skip
        return LineageNode("run", run_id, "made by", ", ".join(facts))


_MORE = LineageNode("more", "…", "", f"more than {GENERATIONS} generations")


def _base(base: Base, version: Version) -> LineageNode:
    scheme, _, revision = version.manifest.base.revision.rpartition(":")
    shown = f"{scheme}:{revision[:12]}" if scheme else revision[:12]
    facts = f"revision {shown}, digest {base.digest[:12]}"
    return LineageNode("base", base.name, "stands on", facts)


def _absent(parent: ParentFacts) -> LineageNode:
    facts = "not in this hub" + (f", sha256:{parent.digest[:12]}" if parent.digest else "")
    return LineageNode("version", parent.version, _UP[parent.relation], facts)
