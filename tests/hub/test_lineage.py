"""Where a version comes from and what came of it: the tree, both ways, and what `show` knows."""

import sqlite3
from typing import Any

import pytest

from hub.errors import UnknownReference
from hub.facts import LineageNode, LintFacts, ParentFacts
from hub.home import Home
from hub.lineage import GENERATIONS
from hub.local import LocalHub
from hub.manifest import FileEntry, Manifest
from hub.origins import dataset_of, lint_summary, origin_of
from hub.records import Base, Version
from hub.registry import Registry
from tests.command import Hub
from tests.conftest import acts

LINEAGE: dict[str, Any] = {
    "kind": "trained",
    "method": "sft",
    "dataset": {
        "name": "tickets", "digest": "d" * 64, "format": "messages", "rows": 400,
        "training_rows": 360, "validation_rows": 40,
    },
    "lint": {
        "counts": {"error": 0, "warning": 2, "info": 1},
        "findings": [
            {"rule": "near-duplicate", "severity": "warning", "reason": "differs only in case",
             "count": 18, "rows": [{"file": "/home/ann/tickets.jsonl", "row": 3}]},
        ],
    },
    "config": {"learning_rate": 0.005},
    "seed": 7,
    "git_commit": "0123456789abcdef0123456789abcdef01234567+dirty",
    "libraries": {"peft": "0.21.2"},
    "metrics": {"seconds": 19.2, "validation_loss": 0.5},
}  # fmt: skip


@pytest.fixture
def hub(home: Home, registry: Registry) -> LocalHub:
    return LocalHub(home, registry, acts)


def add(
    registry: Registry,
    base: Base,
    content: int,
    *,
    name: str = "support",
    parent: Version | None = None,
    lineage: dict[str, Any] | None = None,
    run_id: str | None = None,
) -> Version:
    manifest = Manifest(base.identity, (FileEntry("adapter_config.json", f"{content:064x}", 1),))
    return registry.versions.add(
        name, manifest, rank=4, lineage=lineage or {}, parent=parent, run_id=run_id
    )[0]


def composed(home: Home, version: Version, parents: list[tuple[Version, str]]) -> None:
    with sqlite3.connect(home.registry) as connection:
        connection.executemany(
            "INSERT INTO version_parents VALUES (?, ?, 'composed', ?)",
            [(version.id, parent.id, weight) for parent, weight in parents],
        )


def outline(nodes: tuple[LineageNode, ...]) -> list[Any]:
    """Names of versions, each followed by what is below it."""
    return [
        (node.name, *outline(node.children)) for node in nodes if node.kind in ("version", "more")
    ]


def nodes(found: tuple[LineageNode, ...], kind: str) -> list[LineageNode]:
    return [node for node in found if node.kind == kind]


def test_the_tree_goes_both_ways(hub: LocalHub, registry: Registry, base: Base) -> None:
    """1 -> 2 -> 3, and 2 -> other@1: from 2 there is one above and there are two below."""
    first = add(registry, base, 1)
    second = add(registry, base, 2, parent=first)
    add(registry, base, 3, parent=second)
    add(registry, base, 4, name="other", parent=second)
    tree = hub.lineage("support@2")
    assert (tree.version, tree.digest) == ("support@2", second.digest)
    assert outline(tree.ancestors) == [("support@1",)]
    assert outline(tree.descendants) == [("support@3",), ("other@1",)]
    assert outline(hub.lineage("support@1").descendants) == [
        ("support@2", ("support@3",), ("other@1",))
    ]
    assert outline(hub.lineage("other").ancestors) == [("support@2", ("support@1",))]
    (node,) = nodes(tree.ancestors, "version")
    assert node.relation == "continued from"


def test_what_a_version_was_made_of(hub: LocalHub, registry: Registry, base: Base) -> None:
    """Base with revision, data set with digest and lint, run with its time and commit."""
    dataset = registry.ledger.add_dataset(
        digest="d" * 64, name="tickets", source="t.jsonl", format="messages", rows=400, lint={}
    )
    run = registry.ledger.start_run("support", "sft", base, dataset, {})
    add(registry, base, 1, lineage=LINEAGE, run_id=run.id)
    stands_on, data, made_by = hub.lineage("support").ancestors
    assert (stands_on.kind, stands_on.name) == ("base", "tiny")
    assert "revision sha256:w" in stands_on.facts
    assert (data.kind, data.name) == ("dataset", "tickets")
    assert data.facts == f"400 rows, sha256:{'d' * 12}, lint: 2 warnings, 1 info"
    assert (made_by.kind, made_by.name) == ("run", run.id)
    assert made_by.facts.endswith("19 s, commit 0123456789ab+dirty")


def test_a_deleted_version_keeps_its_place(hub: LocalHub, registry: Registry, base: Base) -> None:
    """Marked as deleted, with what is above and below it; and it can still be asked for."""
    first = add(registry, base, 1)
    second = add(registry, base, 2, parent=first)
    add(registry, base, 3, parent=second)
    hub.remove("support@2", whole_adapter=False, why="test")
    (below,) = hub.lineage("support@1").descendants
    assert (below.name, below.deleted) == ("support@2", True)
    assert "deleted 20" in below.facts
    assert outline(below.children) == [("support@3",)]
    gone = hub.lineage("support@2")
    assert gone.deleted
    assert outline(gone.ancestors) == [("support@1",)]
    with pytest.raises(UnknownReference):
        hub.lineage("support@9")
    (parent,) = hub.show("support@3").parents
    assert parent == ParentFacts("support@2", second.digest, "continued", deleted=True)


def test_what_was_production_then_is_told_although_it_is_deleted(
    hub: LocalHub, registry: Registry, base: Base
) -> None:
    """`resolve --at` answers for the past, and says that it is gone."""
    add(registry, base, 1)
    second = add(registry, base, 2)
    hub.promote("support@2", "production", expect=1, force=True, why="test")
    at = next(hub.history("support")).at
    hub.rollback("support", to=None, why="test")
    hub.remove("support@2", whole_adapter=False, why="test")
    then = hub.resolve("support", at=at)
    now = hub.resolve("support")
    if at < next(hub.history("support")).at:
        assert (then.version, then.digest, then.deleted) == ("support@2", second.digest, True)
    assert (now.version, now.deleted) == ("support@1", False)


def test_a_composition_names_its_parts_with_their_weights(
    hub: LocalHub, registry: Registry, base: Base, home: Home
) -> None:
    """Both parts above it; from a part, the composition below."""
    parts = [add(registry, base, n, name=name) for n, name in ((1, "formal"), (2, "support"))]
    whole = add(registry, base, 3, name="both")
    composed(home, whole, [(parts[0], "0.3"), (parts[1], "0.7")])
    above = nodes(hub.lineage("both").ancestors, "version")
    assert [(node.name, node.relation) for node in above] == [
        ("formal@1", "composed of, weight 0.3"),
        ("support@1", "composed of, weight 0.7"),
    ]
    (below,) = hub.lineage("formal").descendants
    assert (below.name, below.relation) == ("both@1", "composed into, weight 0.3")
    assert [parent.weight for parent in hub.show("both").parents] == ["0.3", "0.7"]


def test_shared_ancestors_are_shown_once(
    hub: LocalHub, registry: Registry, base: Base, home: Home
) -> None:
    """Thirty compositions of the two before them have a billion paths, and few nodes."""
    line = [add(registry, base, n, name=f"v{n}") for n in range(2)]
    for n in range(2, 30):
        new = add(registry, base, n, name=f"v{n}")
        composed(home, new, [(line[-1], "0.5"), (line[-2], "0.5")])
        line.append(new)

    def count(found: tuple[LineageNode, ...]) -> int:
        return sum(1 + count(node.children) for node in found)

    assert count(hub.lineage("v29").ancestors) < 2 * 30
    assert "shown above" in str(hub.lineage("v29"))


def test_a_long_line_is_cut(hub: LocalHub, registry: Registry, base: Base, home: Home) -> None:
    """A thousand nightly continuations don't end in a stack overflow, here or in JSON."""
    version = add(registry, base, 0)
    for content in range(1, GENERATIONS + 5):
        version = add(registry, base, content, parent=version)
    text = str(outline(hub.lineage(str(version)).ancestors))
    assert text.count("support@") == GENERATIONS
    assert "…" in text
    assert "more than" in Hub(home.root).ok("lineage", "support@1").stdout


def test_a_parent_that_is_not_here_is_named(hub: LocalHub, registry: Registry, base: Base) -> None:
    """A pulled version tells of a parent that stayed in the other hub, and where it was pulled."""
    lineage = {
        "parent": "support@7", "parent_digest": "e" * 64,
        "pulled": [{"from": "hf:ann/support", "commit": "c" * 40}],
    }  # fmt: skip
    add(registry, base, 1, lineage=lineage)
    _, source, parent = hub.lineage("support").ancestors
    assert (source.kind, source.name) == ("source", f"hf:ann/support@{'c' * 12}")
    assert (parent.name, parent.facts) == ("support@7", f"not in this hub, sha256:{'e' * 12}")
    assert hub.show("support").parents == (
        ParentFacts("support@7", "e" * 64, "continued", here=False),
    )


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"dataset": None}, {"dataset": "tickets"}, {"dataset": []}, {"dataset": {"rows": "9"}},
        {"dataset": {"name": 3}, "lint": {"counts": [], "findings": {}}},
        {"dataset": {"name": "x"}, "lint": {"counts": {"error": "many"}, "findings": [1, {}]}},
        {"pulled": "yes", "kind": 3, "parent": 7}, {"pulled": [None]}, {"pulled": [{"from": 1}]},
    ],
)  # fmt: skip
def test_a_lineage_from_elsewhere_can_hold_anything(
    hub: LocalHub, registry: Registry, base: Base, odd: dict[str, Any]
) -> None:
    """What is not as expected is not known; nothing fails."""
    version = add(registry, base, 1, lineage=odd)
    assert hub.lineage("support").ancestors[0].kind == "base"
    assert hub.show("support").lineage == version.lineage
    assert isinstance(origin_of(odd), str)


def test_the_lint_is_told_in_a_line() -> None:
    """How many findings of each severity, and one line each without the rows."""
    dataset = dataset_of(LINEAGE)
    assert dataset is not None
    assert (dataset.rows, dataset.training_rows, dataset.validation_rows) == (400, 360, 40)
    assert lint_summary(dataset.lint) == "2 warnings, 1 info"
    assert dataset.lint is not None
    assert dataset.lint.findings == ("warning: near-duplicate: differs only in case (18 rows)",)
    assert "/home/ann" not in str(dataset)
    assert lint_summary(None) == "not known"
    assert lint_summary(LintFacts({"error": 0}, ())) == "nothing found"


def test_the_commands(hub: LocalHub, registry: Registry, base: Base, home: Home) -> None:
    """`hub lineage` prints the tree; `hub show --json` holds all that is known of a version."""
    first = add(registry, base, 1, lineage=LINEAGE)
    add(registry, base, 2, parent=first, lineage=LINEAGE)
    run = Hub(home.root)
    shown = run.ok("lineage", "support@1").stdout
    assert "trained on tickets  400 rows" in shown
    assert "continued as support@2" in shown
    assert run.ok("lineage", "support@2", "--json").json()["ancestors"][0]["name"] == "tiny"
    facts = run.ok("show", "support@2", "--json").json()
    assert facts["dataset"]["lint"]["counts"] == {"error": 0, "info": 1, "warning": 2}
    assert facts["parents"][0]["version"] == "support@1"
    assert facts["lineage"]["seed"] == 7
    assert facts["base"]["revision"] == "sha256:w"
