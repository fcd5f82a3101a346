"""`hub verify`: the gate's checks by name, after the fact, and what time has done to the store."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from hub.adapterfile import FILES
from hub.errors import (
    BaseError,
    HubError,
    IntegrityError,
    MissingExtra,
    TrainingError,
    UnknownReference,
)
from hub.facts import CheckResult, Verification
from hub.home import Home
from hub.keys import read_public_keys, read_signing_key
from hub.local import LocalHub
from hub.manifest import Manifest, describe
from hub.publish import Effect, publish, servable_folder
from hub.records import Base, Version
from hub.registry import Registry
from hub.signing import sign_manifest
from hub.store import Store
from tests.command import Hub
from tests.conftest import acts, adapter_config, adapter_tensors, write_adapter
from tests.hub.making import against_the_rules
from tests.hub.test_signing import write_key

NAMES = [
    "files", "config", "readable", "names", "base", "servable", "rank", "modules", "shapes",
    "complete", "finite", "nonzero", "stored", "manifest", "effect",
]  # fmt: skip
WEIGHTS = "adapter_model.safetensors"
Q0 = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def hub(home: Home, registry: Registry) -> LocalHub:
    return LocalHub(home, registry, acts)


@pytest.fixture
def version(registry: Registry, store: Store, base: Base, tmp_path: Path) -> Version:
    folder = write_adapter(tmp_path / "good")
    return publish(registry, store, "good", folder, base, measure_effect=acts, lineage={})[0]


def slip_in(registry: Registry, store: Store, base: Base, folder: Path, name: str) -> Version:
    """A version that the gate never saw: stored and recorded as `publish` would after it."""
    manifest = Manifest(base.identity, tuple(describe(folder / file, file) for file in FILES))
    for entry in manifest.files:
        store.blobs.put(folder / entry.path, entry)
    return registry.versions.add(name, manifest, rank=4, lineage={})[0]


def one(hub: LocalHub, reference: str, **options: bool) -> Verification:
    (result,) = hub.verify(reference, **options)  # type: ignore[arg-type]
    return result


def states(result: Verification) -> dict[str, str]:
    return {check.check: check.state for check in result.checks}


def found(result: Verification, name: str) -> CheckResult:
    return next(check for check in result.checks if check.check == name)


def spoil(path: Path) -> None:
    """Flip the last bit of a read-only file, as a bad disk would."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_every_check_is_listed_by_its_name(hub: LocalHub, version: Version) -> None:
    """A good version: all of them, in order, and what the effect was."""
    result = one(hub, "good")
    assert [check.check for check in result.checks] == NAMES
    assert set(states(result).values()) == {"ok"}
    assert (result.version, result.digest, result.ok) == ("good@1", version.digest, True)
    assert "log-probability 1" in found(result, "effect").message


def test_one_fault_does_not_hide_another(
    hub: LocalHub, registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """Three faults in one version are three failed checks, each naming its file and tensor."""
    tensors = adapter_tensors()
    tensors[Q0][0, 0] = np.nan
    for key in [key for key in tensors if "layers.0.self_attn.o_proj" in key]:
        del tensors[key]
    folder = write_adapter(tmp_path / "bad", tensors, adapter_config(use_dora=True))
    slip_in(registry, store, base, folder, "bad")
    result = one(hub, "bad")
    failed = {check.check: check.message for check in result.checks if check.state == "failed"}
    assert set(failed) == {"servable", "complete", "finite"}
    assert failed["finite"].startswith(f"{WEIGHTS}: the tensor '{Q0}' holds NaN")
    assert "layers.0.self_attn.o_proj" in failed["complete"]
    assert failed["servable"].startswith("adapter_config.json: it uses DoRA")
    assert not result.ok
    assert found(result, "effect") == CheckResult("effect", "skipped", "servable has failed")


def test_what_can_not_be_read_skips_what_needs_it(
    hub: LocalHub, registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """A file of weights that is cut short leaves the config's checks to speak."""
    folder = write_adapter(tmp_path / "cut", config=adapter_config(bias="all"))
    weights = folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-8])
    slip_in(registry, store, base, folder, "cut")
    assert states(one(hub, "cut")) == {
        "files": "ok", "config": "ok", "readable": "failed", "names": "skipped", "base": "ok",
        "servable": "failed", "rank": "skipped", "modules": "skipped", "shapes": "skipped",
        "complete": "skipped", "finite": "skipped", "nonzero": "skipped", "stored": "ok",
        "manifest": "ok", "effect": "skipped",
    }  # fmt: skip


def test_a_flipped_byte_is_found_where_it_is(hub: LocalHub, version: Version) -> None:
    """In the folder, or in the blob of a folder that is a copy: `stored` names the file."""
    spoil(hub.store.folder(version) / WEIGHTS)
    result = one(hub, "good")
    assert not result.ok
    stored = found(result, "stored")
    assert stored.state == "failed"
    assert WEIGHTS in stored.message


def test_a_damaged_blob_is_found_although_the_folder_is_good(
    hub: LocalHub, version: Version
) -> None:
    """The folder would not come back from it, so it counts."""
    entry = next(entry for entry in version.manifest.files if entry.path == WEIGHTS)
    blob = hub.home.blobs / entry.sha256[:2] / entry.sha256
    whole = blob.read_bytes()
    blob.unlink()  # the folder's hard link stays as it is
    assert "is missing" in found(one(hub, "good"), "stored").message
    blob.write_bytes(whole)
    spoil(blob)
    stored = found(one(hub, "good"), "stored")
    assert (stored.state, "is damaged" in stored.message) == ("failed", True)
    assert WEIGHTS in stored.message


def test_a_lost_folder_is_made_again(hub: LocalHub, version: Version, tmp_path: Path) -> None:
    """It is no fault: every folder can be made from blobs."""
    folder = hub.store.folder(version)
    folder.chmod(0o755)
    folder.rename(tmp_path / "gone")
    assert one(hub, "good").ok
    assert folder.is_dir()


def test_a_row_that_does_not_fit_its_manifest_is_found(hub: LocalHub, version: Version) -> None:
    """Whoever edits the database around its triggers is told on."""
    with sqlite3.connect(hub.home.registry) as connection:
        connection.execute("DROP TRIGGER versions_are_immutable")
        connection.execute("UPDATE versions SET digest = ?", ["f" * 64])
    manifest = found(one(hub, "good"), "manifest")
    assert manifest.state == "failed"
    assert version.digest in manifest.message


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (MissingExtra("this command needs torch"), "skipped", "needs torch"),
        (BaseError("the base can't be loaded", where="/nowhere"), "skipped", "can't be loaded"),
        (TrainingError("the model gives numbers that are not finite"), "failed", "not finite"),
        (None, "failed", "answers the same"),
    ],
)
def test_the_effect_fails_only_by_the_adapters_fault(
    hub: LocalHub, version: Version, error: HubError | None, state: str, words: str
) -> None:
    """Where the model can't be run here the check is skipped with the reason."""

    def measure(source: str, folder: Path) -> Effect:
        if error is not None:
            raise error
        return Effect(changes=False, largest=1e-9, divergence=0.0)

    result = one(LocalHub(hub.home, hub.registry, measure), "good")
    effect = found(result, "effect")
    assert effect.state == state
    assert words in effect.message
    assert result.ok == (state == "skipped")


def test_without_the_effect_nothing_is_run(hub: LocalHub, version: Version) -> None:
    """`effect=False` never asks the model."""

    def never(source: str, folder: Path) -> Effect:
        raise AssertionError("the model was asked")

    result = one(LocalHub(hub.home, hub.registry, never), "good", effect=False)
    assert found(result, "effect") == CheckResult("effect", "skipped", "not asked for")
    assert result.ok


def test_a_signature_is_demanded_only_with_keys(
    hub: LocalHub, version: Version, tmp_path: Path
) -> None:
    """By the right key it is ok, by another or by none it fails."""
    key_file = write_key(tmp_path / "id", ed25519.Ed25519PrivateKey.generate())
    other = write_key(tmp_path / "other", ed25519.Ed25519PrivateKey.generate())
    (line,) = [key.line for key in read_public_keys(Path(f"{key_file}.pub"))]
    (foreign,) = [key.line for key in read_public_keys(Path(f"{other}.pub"))]

    def signature(key: str) -> CheckResult:
        (result,) = hub.verify("good", effect=False, keys=[key])
        assert result.ok == (found(result, "signature").state == "ok")
        return found(result, "signature")

    assert "no signature" in signature(line).message
    private = read_signing_key(key_file, lambda: "")
    hub.sign("good", sign_manifest(version.manifest.to_json(), private, signed_by="ann"))
    assert signature(line).state == "ok"
    assert "ann" in signature(line).message
    assert signature(foreign).state == "failed"


def test_all_versions_of_all_adapters(
    hub: LocalHub, version: Version, registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """None deleted is among them; an unknown reference is an error, not an empty list."""
    for seed, name in ((1, "other"), (2, "gone")):
        folder = write_adapter(tmp_path / name, adapter_tensors(seed))
        publish(registry, store, name, folder, base, measure_effect=acts, lineage={})
    hub.remove("gone", whole_adapter=True, why="test")
    assert [result.version for result in hub.verify(None)] == ["good@1", "other@1"]
    with pytest.raises(UnknownReference):
        list(hub.verify("gone@1"))


def test_the_command(
    hub: LocalHub, version: Version, registry: Registry, store: Store, base: Base, tmp_path: Path
) -> None:
    """`hub verify REF` and `--all`: every check by name, exit 1 when one has failed."""
    tensors = adapter_tensors(3)
    tensors[Q0][0, 0] = np.inf
    slip_in(registry, store, base, write_adapter(tmp_path / "bad", tensors), "bad")
    run = Hub(hub.home.root)
    good = run.ok("verify", "good@1", "--no-effect").stdout.splitlines()
    assert good[0] == f"good@1  sha256:{version.digest[:12]}"
    assert [line.split()[1] for line in good[1:]] == NAMES
    bad = run("verify", "bad", "--no-effect", "--json")
    assert bad.status == 1
    (failed,) = [check for check in bad.json()["checks"] if check["state"] == "failed"]
    assert failed["check"] == "finite"
    assert Q0 in failed["message"]
    everything = run("verify", "--all", "--no-effect")
    assert everything.status == 1
    assert [line.split()[:2] for line in everything.stdout.splitlines()] == [
        ["failed", "bad@1"],
        ["ok", "good@1"],
    ]
    assert "2 verified, 1 failed" in everything.stderr
    assert run("verify").status == 2


def test_what_was_slipped_into_a_folder_is_found_and_not_sent_on(
    hub: LocalHub, version: Version, tmp_path: Path
) -> None:
    """A pickle and more tensors fail the check, another card is for the doctor to say; what goes
    out is the published files and a card made from the row."""
    folder = hub.store.folder(version)
    card = (folder / "README.md").read_bytes()
    folder.chmod(0o755)
    (folder / "README.md").chmod(0o644)
    (folder / "README.md").write_text("run this")
    assert next(f for f in hub.doctor() if f.check == "cards").state == "warning"
    assert found(one(hub, "good"), "stored").state == "ok"
    for name in ("adapter_model.bin", "new_embeddings.safetensors"):
        (folder / name).write_text("x")
    faults = list(hub.store.faults(version, card.decode()))
    assert [Path(fault.where or "").name for fault in faults] == [
        "README.md", "adapter_model.bin", "new_embeddings.safetensors"
    ]  # fmt: skip
    assert "adapter_model.bin" in found(one(hub, "good"), "stored").message
    hub.fetch("good", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FILES, "README.md"}
    assert (tmp_path / "out" / "README.md").read_bytes() == card
    with pytest.raises(IntegrityError, match=r"adapter_model\.bin: the file was not published"):
        servable_folder(hub.store, version)


@pytest.mark.parametrize("kind", ["file", "dangling", "link"])
def test_what_lies_in_the_place_of_a_folder_is_named(
    hub: LocalHub, version: Version, tmp_path: Path, kind: str
) -> None:
    """A file, a link to nothing, a link to the very folder: `stored` fails and says what to do, and
    a copy out blames it and not the target. Moved away, all is well."""
    folder = hub.store.folder(version)
    folder.chmod(0o755)
    folder.rename(tmp_path / "moved")
    if kind == "file":
        folder.write_text("x")
    else:
        folder.symlink_to(tmp_path / ("moved" if kind == "link" else "nothing"))
    stored = found(one(hub, "good"), "stored")
    assert stored.state == "failed"
    assert f"{folder}: a {kind.replace('dangling', 'link')} lies where" in stored.message
    assert "Move it away" in stored.message
    with pytest.raises(IntegrityError, match="lies where the folder of good@1 belongs"):
        hub.fetch("good", tmp_path / "out")
    folder.unlink()
    assert one(hub, "good").ok


@pytest.mark.parametrize(("column", "value"), [("manifest", "{}"), ("lineage", "[]")])
def test_a_row_that_can_not_be_read_hides_no_other(
    hub: LocalHub, version: Version, registry: Registry, store: Store, base: Base,
    tmp_path: Path, column: str, value: str,
) -> None:  # fmt: skip
    """It is a failed `manifest` of its version, alone or among all; other commands name it."""
    other = write_adapter(tmp_path / "other", adapter_tensors(1))
    publish(registry, store, "other", other, base, measure_effect=acts, lineage={})
    against_the_rules(hub.home, f"UPDATE versions SET {column} = '{value}' WHERE id = 1")
    results = list(hub.verify(None))
    assert [(r.version, r.ok, r.digest == version.digest) for r in results] == [
        ("good@1", False, True), ("other@1", True, False),
    ]  # fmt: skip
    (check,) = one(hub, "good").checks
    assert (check.check, check.state) == ("manifest", "failed")
    assert f"good@1: its row's {column} can't be read" in check.message
    for ask in (hub.show, hub.lineage, hub.manifest, lambda ref: hub.diff(ref, "other")):
        with pytest.raises(IntegrityError, match=f"good@1: its row's {column}"):
            ask("good")


@pytest.mark.parametrize("rank", [5, 999])
def test_a_row_of_another_rank_is_found(hub: LocalHub, version: Version, rank: int) -> None:
    """Also of one that no adapter may have."""
    against_the_rules(hub.home, f"UPDATE versions SET rank = {rank}")
    manifest = found(one(hub, "good"), "manifest")
    assert manifest.state == "failed"
    assert f"says rank {rank}, its files rank 4" in manifest.message
