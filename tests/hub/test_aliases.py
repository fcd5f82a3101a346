"""Aliases move by the rules: gate, protection, compare-and-swap; the history tells all of it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from hub.errors import (
    AliasMoved,
    Conflict,
    GateRefused,
    InvalidName,
    UnknownReference,
    UsageError,
)
from hub.home import Home
from hub.local import LocalHub
from hub.manifest import FileEntry, Manifest
from hub.records import Base, Version
from hub.registry import Registry
from tests.command import Hub
from tests.conftest import acts


def add(registry: Registry, base: Base, content: int, name: str = "support") -> Version:
    manifest = Manifest(base.identity, (FileEntry("adapter_config.json", f"{content:064x}", 1),))
    return registry.versions.add(name, manifest, rank=4, lineage={})[0]


def judged(registry: Registry, version: Version, verdict: str) -> None:
    dataset = registry.ledger.add_dataset(
        digest="d" * 64, name="heldout", source="heldout.jsonl", format="messages", rows=60, lint={}
    )
    registry.ledger.add_evaluation(
        version, against="base", dataset=dataset, metric="label", verdict=verdict,
        result={"reason": "difference +1.0%", "summary": "1% -> 2%"},
    )  # fmt: skip


@pytest.fixture
def hub(registry: Registry, base: Base, home: Home) -> LocalHub:
    """Three versions of support; 1 is production, the gate has passed 2."""
    versions = [add(registry, base, content) for content in (1, 2, 3)]
    judged(registry, versions[1], "PASS")
    return LocalHub(home, registry, acts)


def promote(hub: LocalHub, reference: str, alias: str = "production", **more: object) -> int | None:
    options: dict[str, object] = {"expect": None, "force": False, "why": "", **more}
    return hub.promote(reference, alias, **options).to_number  # type: ignore[arg-type]


def test_a_protected_alias_wants_the_gates_pass(hub: LocalHub) -> None:
    """Without an evaluation, or with a newer one that fails, production stays where it is."""
    assert promote(hub, "support@2") == 2
    with pytest.raises(GateRefused, match="has not been evaluated"):
        promote(hub, "support@3")
    judged(hub.registry, hub.registry.versions.get("support", 3), "PASS")
    judged(hub.registry, hub.registry.versions.get("support", 3), "FAIL")
    with pytest.raises(GateRefused, match="gate says FAIL") as refused:
        promote(hub, "support@3")
    assert refused.value.exit_code == 3
    assert hub.resolve("support").version == "support@2"


def test_force_wants_a_reason_and_is_recorded(hub: LocalHub) -> None:
    """Against the gate is possible, by name and with what the gate had said."""
    with pytest.raises(UsageError, match="wants a reason"):
        promote(hub, "support@3", force=True, why="  ")
    promote(hub, "support@3", force=True, why="the old one leaks")
    move = next(hub.history("support"))
    assert (move.forced, move.verdict, move.why) == (True, "NONE", "the old one leaks")


def test_setting_an_alias_is_free_until_its_name_is_protected(hub: LocalHub) -> None:
    """`alias set` moves any name; a protected name obeys the gate in every adapter."""
    options = {"expect": None, "force": False, "why": ""}
    hub.set_alias("support@3", "candidate", **options)  # type: ignore[arg-type]
    assert next(hub.history("support", "candidate")).action == "set"
    assert hub.protect("candidate", protected=True) == ["candidate", "production"]
    with pytest.raises(GateRefused):
        hub.set_alias("support@1", "candidate", **options)  # type: ignore[arg-type]
    with pytest.raises(GateRefused):
        promote(hub, "support@1", "candidate")
    assert promote(hub, "support@2", "candidate") == 2
    assert [(a.alias, a.number, a.protected) for a in hub.aliases("support")] == [
        ("candidate", 2, True),
        ("production", 1, True),
    ]
    assert hub.protect("candidate", protected=False) == ["production"]
    assert promote(hub, "support@1", "candidate") == 1


def test_production_stays_protected(hub: LocalHub) -> None:
    """Lifting it would hide what --force records, so it can't be lifted."""
    with pytest.raises(Conflict, match="always protected"):
        hub.protect("production", protected=False)
    with pytest.raises(Conflict, match="is not protected"):
        hub.protect("candidate", protected=False)
    with pytest.raises(InvalidName):
        hub.protect("No Name", protected=True)


def test_expect_zero_means_that_there_is_no_such_alias_yet(hub: LocalHub) -> None:
    """Of two who make an alias, the second is told what it is."""
    assert promote(hub, "support@3", "candidate", expect=0) == 3
    with pytest.raises(AliasMoved, match="exists: it is version 3") as lost:
        promote(hub, "support@2", "candidate", expect=0)
    assert lost.value.current == 3
    with pytest.raises(AliasMoved, match="does not exist now, not 3"):
        promote(hub, "support@2", "other", expect=3)
    with pytest.raises(UsageError, match="no alias names version -1"):
        promote(hub, "support@2", "other", expect=-1)


def test_a_lost_race_is_told_before_the_gate_is(hub: LocalHub) -> None:
    """Whoever looked at an old state hears of the new one, not of a verdict."""
    promote(hub, "support@2")
    with pytest.raises(AliasMoved, match="is version 2 now, not 1"):
        promote(hub, "support@3", expect=1)
    with pytest.raises(AliasMoved, match="is version 2 now, not 1"):
        promote(hub, "support@2", expect=1)
    with pytest.raises(Conflict, match="already"):
        promote(hub, "support@2")


def test_the_verdict_counts_as_it_is_at_the_move(hub: LocalHub, home: Home) -> None:
    """A FAIL that another process commits while a promotion waits for the lock is obeyed."""
    outcome: list[object] = []

    def promotes() -> None:
        with LocalHub.open(home, acts) as other:
            started.set()
            try:
                outcome.append(promote(other, "support@2"))
            except GateRefused as error:
                outcome.append(error.verdict)

    started = threading.Event()
    waiting = threading.Thread(target=promotes)
    with hub.registry.writing():
        waiting.start()
        assert started.wait(30)
        waiting.join(0.3)  # it stands before the lock now; where it stands does not matter
        judged(hub.registry, hub.registry.versions.get("support", 2), "FAIL")
    waiting.join(30)
    assert outcome == ["FAIL"]
    assert hub.resolve("support").version == "support@1"


def test_an_alias_can_be_removed_and_its_past_stays(hub: LocalHub) -> None:
    """After `rm` nothing resolves by it, and `--at` still tells what it was."""
    promote(hub, "support@3", "candidate")
    before = next(hub.history("support", "candidate")).at
    move = hub.remove_alias("support", "candidate", why="done")
    assert (move.action, move.from_number, move.to_number) == ("rm", 3, None)
    with pytest.raises(UnknownReference):
        hub.resolve("support@candidate")
    with pytest.raises(UnknownReference):
        hub.resolve("support@candidate", at=move.at)
    if before < move.at:
        assert hub.resolve("support@candidate", at=before).version == "support@3"
    with pytest.raises(UnknownReference, match="no alias 'support@candidate'"):
        hub.remove_alias("support", "candidate", why="")
    assert promote(hub, "support@2", "candidate", expect=0) == 2


def test_what_may_not_be_removed(hub: LocalHub) -> None:
    """Production never; another protected name only for a reason."""
    with pytest.raises(Conflict, match="moved but not removed"):
        hub.remove_alias("support", "production", why="why not")
    hub.protect("stable", protected=True)
    promote(hub, "support@2", "stable")
    with pytest.raises(UsageError, match="wants a reason"):
        hub.remove_alias("support", "stable", why=" ")
    hub.remove_alias("support", "stable", why="renamed")
    assert [a.alias for a in hub.aliases()] == ["production"]


def test_a_rollback_never_goes_to_a_deleted_version(hub: LocalHub) -> None:
    """It is skipped, the history says that it is deleted, and naming it is refused."""
    promote(hub, "support@2")
    promote(hub, "support@3", force=True, why="test")
    hub.remove("support@2", whole_adapter=False, why="test")
    with pytest.raises(UnknownReference, match="was deleted"):
        hub.rollback("support", to=2, why="")
    assert hub.rollback("support", to=None, why="").to_number == 1
    moves = [(m.from_number, m.from_deleted, m.to_number, m.to_deleted)
             for m in hub.history("support")]  # fmt: skip
    assert moves == [
        (3, False, 1, False),
        (2, True, 3, False),
        (1, False, 2, True),
        (None, False, 1, False),
    ]


def test_with_all_earlier_versions_deleted_there_is_nothing_to_go_back_to(hub: LocalHub) -> None:
    """Said plainly, instead of going somewhere else."""
    promote(hub, "support@2")
    hub.remove("support@1", whole_adapter=False, why="test")
    with pytest.raises(Conflict, match="that has not been deleted"):
        hub.rollback("support", to=None, why="")


def test_rolling_forward_again_keeps_the_way_back(hub: LocalHub) -> None:
    """1, 2, back to 1, `--to 2`: the version before is 1, not nothing."""
    promote(hub, "support@2")
    hub.rollback("support", to=None, why="")
    assert hub.rollback("support", to=2, why="").to_number == 2
    assert hub.rollback("support", to=None, why="").to_number == 1
    with pytest.raises(Conflict, match="never been in production"):
        hub.rollback("support", to=3, why="")
    with pytest.raises(Conflict, match="already"):
        hub.rollback("support", to=1, why="")


def test_the_history_outlives_the_versions(hub: LocalHub) -> None:
    """Also of an adapter that has no version left; an unknown name is refused."""
    hub.remove("support", whole_adapter=True, why="test")
    moves = [(m.action, m.to_number, m.to_deleted) for m in hub.history("support")]
    assert moves == [("rm", None, False), ("publish", 1, True)]
    with pytest.raises(UnknownReference):
        list(hub.history("nobody"))


def test_a_transaction_inside_another_is_part_of_it(hub: LocalHub) -> None:
    """What fails after an inner move takes the move back too."""
    with pytest.raises(RuntimeError), hub.registry.writing():  # noqa: PT012 - that is the point
        promote(hub, "support@2")
        raise RuntimeError("killed")
    assert hub.resolve("support").version == "support@1"
    assert len(list(hub.history("support"))) == 1


def test_two_commands_at_once(hub: LocalHub) -> None:
    """Of two `hub promote --expect 1` one wins, and the other is told what it is now."""
    run = Hub(hub.home.root)
    commands = [
        ("promote", "support@2", "--expect", "1"),
        ("promote", "support@3", "--expect", "1", "--force", "--why", "race"),
    ]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda arguments: run(*arguments), commands))
    assert sorted(result.status for result in results) == [0, 1]
    loser = next(result for result in results if result.status == 1)
    assert f"is version {hub.resolve('support').version[-1]} now, not 1" in loser.stderr
    assert len(list(hub.history("support"))) == 2


def test_the_commands(hub: LocalHub) -> None:
    """promote, rollback, history and alias, as a user runs them."""
    run = Hub(hub.home.root)
    assert run.ok("promote", "support@2").stdout == "support@production -> support@2 (was @1)\n"
    assert run("promote", "support@3").status == 4
    assert run.ok("alias", "set", "support@3", "candidate", "--expect", "0").stdout == (
        "support@candidate -> support@3\n"
    )
    assert run.ok("alias", "protect", "candidate").stdout == "protected: candidate, production\n"
    listed = run.ok("alias", "ls", "--json").json()
    assert listed[0] == {
        "adapter": "support", "alias": "candidate", "number": 3, "protected": True,
    }  # fmt: skip
    assert run.ok("alias", "rm", "support@candidate", "--why", "x").stdout == (
        "support@candidate is removed (was @3)\n"
    )
    assert run.ok("rollback", "support").stdout == "support@production -> support@1 (was @2)\n"
    lines = run.ok("history", "support", "--alias", "candidate").stdout.splitlines()
    assert [line.split()[3] for line in lines[1:]] == ["rm", "set"]
