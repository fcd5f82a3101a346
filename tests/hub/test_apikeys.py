"""API keys: made once, kept as a hash, recognised, revoked for good; the fence of namespaces."""

import hashlib
import json
import re
import sqlite3
from pathlib import Path

import pytest

from hub.apikeys import parse_expiry, recognise
from hub.clock import now
from hub.errors import Conflict, HubError, InsufficientScope, InvalidName, NotFound, UsageError
from hub.facts import KeyWanted
from hub.home import Home
from hub.local import LocalHub
from hub.registry import Registry
from hub.restore import restore
from tests.command import Hub
from tests.conftest import acts, adapter_tensors, write_adapter
from tests.hub.backups import back_up
from tests.hub.making import Maker, maker
from tests.serve.registry_api import serving

KEY = re.compile(r"loom_([0-9a-f]{12})_[A-Za-z0-9]{40}")


@pytest.fixture
def hub(home: Home, registry: Registry) -> Hub:
    return Hub(home.root)


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# -- the command -----------------------------------------------------------------------------------


def test_a_key_is_printed_once_and_kept_as_a_hash(hub: Hub) -> None:
    """stdout is the key alone; no file of the hub and no other command has it afterwards."""
    made = hub.ok("keys", "create", "ada")
    found = KEY.fullmatch(made.stdout.strip())
    assert found
    secret = made.stdout.strip()
    assert secret not in made.stderr
    assert "every server of this hub wants a key" in made.stderr
    assert secret.rpartition("_")[2].encode() not in bytes_of(hub.home)
    assert hashlib.sha256(secret.encode()).hexdigest().encode() in bytes_of(hub.home)
    listed = hub.ok("keys", "ls", "--json")
    assert listed.json() == [
        {
            "id": found[1], "name": "ada", "scopes": ["infer"], "namespaces": None,
            "rate_per_minute": None, "concurrent": None, "expires_at": None, "revoked_by": None,
            "revoked_at": None, "state": "living",
            "created_by": listed.json()[0]["created_by"],
            "created_at": listed.json()[0]["created_at"],
        }
    ]  # fmt: skip
    assert secret.rpartition("_")[2] not in listed.stdout + hub.ok("keys", "ls").stdout


def test_everything_that_can_be_asked_for_is_kept(hub: Hub) -> None:
    """Scopes, namespaces, limits and expiry; `--json` has the key under `secret`."""
    made = hub.ok(
        "keys", "create", "acme-app", "--scope", "feedback", "--scope", "infer", "--namespace",
        "acme", "--namespace", "a.b", "--rate", "90/min", "--concurrent", 3, "--expires", "90d",
        "--json",
    ).json()  # fmt: skip
    assert KEY.fullmatch(made["secret"])
    key = made["key"]
    assert key["scopes"] == ["infer", "feedback"]
    assert key["namespaces"] == ["a.b", "acme"]
    assert (key["rate_per_minute"], key["concurrent"]) == (90, 3)
    assert parse_expiry("89d") < key["expires_at"] < parse_expiry("91d")
    shown = hub.ok("keys", "ls").stdout
    assert "a.b/…, acme/…" in shown
    assert "90/min, 3 at once" in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x", "--scope", "root"), "root"),
        (("x", "--rate", "90"), "60/min"),
        (("x", "--expires", "soon"), "neither an age nor a time"),
        (("x", "--namespace", "acme/"), "can't name a namespace"),
    ],
)
def test_what_makes_no_sense_is_refused(hub: Hub, arguments: tuple[str, ...], words: str) -> None:
    """Exit 2, with words that say what to write."""
    refused = hub("keys", "create", *arguments)
    assert (refused.status, refused.stdout) == (2, "")
    assert words in refused.stderr


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (KeyWanted("a b", ("infer",)), "can't name an API key"),
        (KeyWanted("", ("infer",)), "can't name an API key"),
        (KeyWanted("0123456789ab", ("infer",)), "can't name an API key"),
        (KeyWanted("x", ("infer", "root")), "no scope 'root'"),
        (KeyWanted("x", ()), "without a scope"),
        (KeyWanted("x", ("infer",), ()), "no namespace"),
        (KeyWanted("x", ("infer",), ("Acme",)), "can't name a namespace"),
        (KeyWanted("x", ("infer",), rate_per_minute=0), "rate is 0"),
        (KeyWanted("x", ("infer",), concurrent=0), "concurrent is 0"),
        (KeyWanted("x", ("infer",), expires_at="2020-01-01"), "expired"),
    ],
)
def test_no_key_is_made_of_what_makes_no_sense(
    registry: Registry, wanted: KeyWanted, words: str
) -> None:
    """Whoever asks: the command, or a request over HTTP."""
    with pytest.raises(UsageError, match=words):
        registry.keys.create(wanted)
    assert registry.keys.all() == []


def test_a_name_is_free_again_once_its_key_is_revoked(registry: Registry) -> None:
    """By name or id, once and for good; the row stays, with who and when."""
    first = registry.keys.create(KeyWanted("ada", ("admin",)))
    with pytest.raises(Conflict, match="already"):
        registry.keys.create(KeyWanted("ada", ("infer",)))
    gone = registry.keys.revoke("ada")
    assert (gone.state, gone.id) == ("revoked", first.key.id)
    second = registry.keys.create(KeyWanted("ada", ("infer",)))
    assert second.key.id != first.key.id
    for again in (first.key.id, "nobody", "ada' OR 1=1"):
        with pytest.raises(NotFound):
            registry.keys.revoke(again)
    assert registry.keys.revoke(second.key.id).revoked_at
    assert [key.id for key in registry.keys.all()] == [first.key.id, second.key.id]
    assert registry.keys.living() == {}


def test_the_database_itself_keeps_keys_as_they_were(registry: Registry, home: Home) -> None:
    """No statement widens a key, takes a revocation back or deletes a row."""
    registry.keys.create(KeyWanted("ada", ("infer",)))
    registry.keys.revoke("ada")
    connection = sqlite3.connect(home.registry)
    for statement in (
        "UPDATE api_keys SET scopes = '[\"admin\"]'",
        "UPDATE api_keys SET sha256 = ''",
        "UPDATE api_keys SET expires_at = NULL",
        "UPDATE api_keys SET revoked_at = NULL",
        "DELETE FROM api_keys",
    ):
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    connection.close()


def test_a_revoked_key_stays_revoked_through_a_restore(
    registry: Registry, home: Home, tmp_path: Path
) -> None:
    """A backup from before brings back what was there then, and no access that was taken away."""
    for name in ("kept", "gone"):
        registry.keys.create(KeyWanted(name, ("infer",)))
    file = back_up(home, tmp_path / "all.tar")
    registry.keys.revoke("gone")
    registry.keys.create(KeyWanted("later", ("infer",)))
    restore(home, file, force=True)
    assert {key.name: key.state for key in registry.keys.all()} == {
        "kept": "living", "gone": "revoked",
    }  # fmt: skip


def test_only_the_whole_key_is_recognised(registry: Registry) -> None:
    """Not its id, another's secret, its hash, a longer or shorter one, nor nothing."""
    one, other = (registry.keys.create(KeyWanted(name, ("infer",))) for name in ("one", "other"))
    keys = registry.keys.living()
    found = recognise(keys, one.secret)
    assert found
    assert found.facts.name == "one"
    swapped = f"loom_{one.key.id}_{other.secret.rpartition('_')[2]}"
    hashed = keys[one.key.id].sha256
    for wrong in (
        "", "_", "loom_", one.key.id, f"loom_{one.key.id}_", f"loom_{one.key.id}_{hashed}", swapped,
        one.secret[:-1], f"{one.secret}x", one.secret.upper(), f" {one.secret}", hashed, "ÿ_ÿ_ÿ",
        "loom_0123456789ab_" + "a" * 40, one.secret.removeprefix("loom_"),
    ):  # fmt: skip
        assert recognise(keys, wrong) is None, wrong
        assert recognise({}, wrong) is None


def test_an_age_or_a_time() -> None:
    """m, h, d and w from now, or ISO 8601."""
    ages = [parse_expiry(age) for age in ("1m", "2h", "1d", "1w")]
    assert ages == sorted(ages)
    assert ages[0] > now()
    assert parse_expiry("2027-05-01T00:00Z") == "2027-05-01T00:00:00.000Z"
    for wrong in ("", "0d", "-1d", "1y", "d", "1.5d", "99999999d"):
        with pytest.raises(UsageError):
            parse_expiry(wrong)


def test_keys_are_managed_from_elsewhere_too(hub: Hub, tmp_path: Path) -> None:
    """--hub does the same; once there is a key, with an admin's in HUB_KEY or HUB_KEY_FILE only."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with serving(Home(hub.home)) as url:
        there = Hub(elsewhere)
        admin = there.ok("keys", "create", "root", "--scope", "admin", "--hub", url).stdout.strip()
        refused = there("keys", "ls", "--hub", url)
        assert refused.status == 1
        assert "HUB_KEY" in refused.stderr
        assert "Traceback" not in refused.stderr
        keyed = Hub(elsewhere, key=admin)
        app = keyed.ok("keys", "create", "app", "--namespace", "acme", "--hub", url).stdout.strip()
        (elsewhere / "key").write_text(f"{admin}\n")
        filed = Hub(elsewhere, key_file="key")
        assert [key["name"] for key in filed.ok("keys", "ls", "--json", "--hub", url).json()] == [
            "root", "app",
        ]  # fmt: skip
        limited = Hub(elsewhere, key=app)("keys", "ls", "--hub", url)
        assert limited.status == 1
        assert "admin" in limited.stderr
        assert keyed.ok("keys", "revoke", "app", "--hub", url).stdout.startswith("revoked app")
        gone = Hub(elsewhere, key=app)("ls", "--hub", url)
        assert gone.status == 1
        for secret in (admin, app):
            assert secret not in refused.stderr + limited.stderr + gone.stderr
        assert Hub(elsewhere, key="two words")("ls", "--hub", url).status == 2
        nowhere = Hub(elsewhere, key_file="nowhere")("ls", "--hub", url)
        assert nowhere.status == 2
        assert "can't be read" in nowhere.stderr
    with Registry.open(Home(hub.home)) as registry:
        assert [key.created_by for key in registry.keys.all()][1] == "root"


# -- the fence -------------------------------------------------------------------------------------


@pytest.fixture
def make(registry: Registry, tmp_path: Path) -> Maker:
    return maker(registry, tmp_path)


@pytest.fixture
def shared(registry: Registry, home: Home, make: Maker) -> LocalHub:
    """acme/x with two versions, other/x on top of the first, other/y, and one without namespace."""
    parent = make(name="acme/x", seed=1)
    make(name="acme/x", seed=2)
    make(name="other/x", seed=3, parent=parent)
    make(name="other/y", seed=4)
    make(name="plain", seed=5)
    return LocalHub.open(home, acts)


def test_behind_a_fence_there_is_nothing_else(shared: LocalHub) -> None:
    """Lists, counts, family trees and hints have the namespace alone; the rest was never there."""
    with shared as hub:
        hub.registry.fence.put_up(["acme"])
        assert [summary.name for summary in hub.adapters()] == ["acme/x"]
        assert {alias.adapter for alias in hub.aliases()} == {"acme/x"}
        assert hub.lineage("acme/x@1").descendants == ()
        told = json.dumps([str(found) for found in hub.verify(None, effect=False)])
        assert "other" not in told
        assert "plain" not in told
        for name in ("other/x", "other/y@1", "plain", "other/none", "none"):
            with pytest.raises(HubError) as refused:
                hub.show(name)
            said = f"{refused.value} {refused.value.hint}".replace(name, "NAME")
            assert said == (
                "there is no adapter 'NAME' There are: acme/x. Run `hub ls`."
                " This API key is for acme/… only."
            )
        hub.registry.fence.put_up(["other"])
        assert [summary.name for summary in hub.adapters()] == ["other/x", "other/y"]
        assert hub.show("other/x").parents == ()
        # Nor does a page's cursor count what others do.
        assert [place for place, _ in hub.moves("other/y")] == [1]


def test_behind_a_fence_one_may_work_within_it_only(shared: LocalHub, tmp_path: Path) -> None:
    """Aliases move and versions are published inside; outside nothing is touched; gc is refused."""
    with shared as hub:
        hub.registry.fence.put_up(["acme"])
        hub.promote("acme/x@2", "production", expect=1, force=True, why="better")
        folder, another = (
            write_adapter(tmp_path / f"new-{seed}", adapter_tensors(seed=seed)) for seed in (9, 10)
        )
        assert hub.publish("acme/new", folder, lineage={}).version == "acme/new@1"
        assert hub.publish("acme/x", folder, lineage={}).version == "acme/x@3"
        for name in ("other/x", "other/new", "new"):
            with pytest.raises(NotFound):
                hub.publish(name, folder, lineage={})
        with pytest.raises(NotFound):
            hub.publish("acme/new", another, lineage={"parent": "other/x@1"})
        for act in (
            lambda: hub.promote("other/x@1", "canary", expect=None, force=True, why="x"),
            lambda: hub.rollback("other/x", to=None, why="x"),
            lambda: hub.remove_alias("other/x", "canary", why="x"),
            lambda: hub.remove("other/x", whole_adapter=True, why="x"),
        ):
            with pytest.raises(NotFound):
                act()
        for whole in (
            lambda: hub.gc(keep_days=0, dry_run=True),
            lambda: hub.doctor(),
            lambda: hub.protect("x", protected=True),
            lambda: hub.keys(),
            lambda: hub.create_key(KeyWanted("x", ("admin",))),
            lambda: hub.revoke_key("x"),
        ):
            with pytest.raises(InsufficientScope):
                whole()
    with Registry.open(shared.home) as registry:
        names = {summary.name for summary in registry.summaries()}
        assert names == {"acme/new", "acme/x", "other/x", "other/y", "plain"}
        assert registry.aliases.of("other/x") == {"production": 1}


def test_a_namespace_is_a_name_not_a_prefix(registry: Registry, make: Maker) -> None:
    """`acme` admits neither acme2/x nor an adapter that is itself called acme."""
    for seed, name in enumerate(("acme", "acme/x", "acme2/x", "ac/me")):
        make(name=name, seed=seed)
    registry.fence.put_up(["acme"])
    assert [summary.name for summary in registry.summaries()] == ["acme/x"]
    assert [registry.fence.admits(n) for n in ("acme", "acme/y", "acme2/x", "ac/me")] == [
        False, True, False, False,
    ]  # fmt: skip
    with pytest.raises(InvalidName):
        registry.keys.create(KeyWanted("x", ("infer",), ("acme/x",)))
