"""Moving adapters: what arrives is what was sent, and knows where it comes from."""

import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hub.errors import (
    AdapterRejected,
    Conflict,
    InvalidName,
    NotFound,
    TransferError,
    UnknownBase,
    UsageError,
)
from hub.local import LocalHub
from hub.operations import Operations
from hub.publish import Effect
from hub.transfer import pull, push
from tests.command import Hub
from tests.conftest import adapter_config, adapter_tensors, base_shapes, write_adapter
from tests.hub.hugging_face_double import HuggingFaceDouble
from tests.hub.moving import FILES, IDENTITY, contents, here, hub_of_models, make_hub, no_hub, take

__all__ = ["here", "hub_of_models", "make_hub"]


@pytest.mark.parametrize("way", ["folder", "tar", "tar.gz", "hf"])
def test_a_round_trip_keeps_every_byte(
    here: LocalHub, make_hub: Callable[..., LocalHub], hub_of_models: HuggingFaceDouble,
    tmp_path: Path, way: str,
) -> None:  # fmt: skip
    """Push, pull into a hub that calls the base otherwise, push again: same files, same digest,
    same signatures; the lineage stays and gains one stop."""
    target = "hf:acme/support" if way == "hf" else str(tmp_path / f"sent.{way}")
    sent = push(here, "acme/support@1", target)
    there = make_hub("there", base="renamed")
    source = target if way == "hf" else sent.target
    pulled = take(there, source)
    assert (pulled.published.version, pulled.published.created) == ("acme/support@1", True)
    assert (pulled.named_after, pulled.left_out) == ("", ())
    mine, theirs = here.show("acme/support"), there.show("acme/support")
    assert theirs.digest == mine.digest == sent.digest == pulled.published.digest
    assert theirs.signatures == mine.signatures
    assert theirs.base.name == "renamed"
    journey = theirs.lineage.pop("pulled")
    assert theirs.lineage == mine.lineage
    assert journey == [{**pulled.origin, "version": "acme/support@1"}]
    if way == "hf":
        assert pulled.origin == {"from": "hf:acme/support", "commit": sent.commit}
        assert sent.private is True
    push(here, "acme/support", str(tmp_path / "a"))
    push(there, "acme/support", str(tmp_path / "b"))
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a.keys() == b.keys() == {*FILES, "README.md", "loom.json"}
    assert all(a[name] == b[name] for name in FILES)
    again = take(there, source)
    assert (again.published.version, again.published.created) == ("acme/support@1", False)
    assert all(check.state != "failed" for check in next(there.verify("acme/support")).checks)


def test_a_tar_has_the_same_bytes_whenever_it_is_made(here: LocalHub, tmp_path: Path) -> None:
    """Sorted, without times or owners; plain tar reads it, and a file in its place is replaced."""
    (tmp_path / "b.tar").write_text("an older one")
    for name in ("a.tar", "b.tar", "a.tar.gz", "b.tar.gz"):
        os.utime(here.store.folder(here._version("acme/support")))
        push(here, "acme/support", str(tmp_path / name))
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert [member.name for member in tar] == [
            f"support@1/{name}" for name in sorted((*FILES, "README.md", "loom.json"))
        ]
        assert {(member.mtime, member.uid, member.uname) for member in tar} == {(0, 0, "")}
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_a_pushed_folder_is_plain_peft(here: LocalHub, tmp_path: Path) -> None:
    """The published bytes and the card; nothing is written over what is there."""
    (tmp_path / "empty").mkdir()
    push(here, "acme/support", str(tmp_path / "empty"))
    for name in FILES:
        assert (tmp_path / "empty" / name).read_bytes() == (
            tmp_path / "trained" / name
        ).read_bytes()
    with pytest.raises(Conflict, match="something is there"):
        push(here, "acme/support", str(tmp_path / "empty"))
    with pytest.raises(NotFound):
        push(here, "acme/support@2", str(tmp_path / "new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "here", "trained"]


def test_an_adapter_from_elsewhere(make_hub: Callable[..., LocalHub], tmp_path: Path) -> None:
    """A folder without loom.json is named after itself and stands on the base that it names; files
    that no version has are left out and named."""
    hub = make_hub("hub")
    hub.registry.bases.add("/nowhere/other", replace(IDENTITY, name="other", revision="r2"),
                           base_shapes())  # fmt: skip
    folder = write_adapter(
        tmp_path / "My Adapter (v2)", config=adapter_config(base_model_name_or_path="other")
    )
    for name in ("tokenizer.json", "adapter_model.bin", "training_args.bin", ".gitattributes"):
        (folder / name).write_text("{}")
    (folder / "checkpoint-100").mkdir()
    pulled = take(hub, folder)
    assert pulled.published.version == "my-adapter-v2@1"
    assert pulled.named_after == "My Adapter (v2)"
    assert pulled.left_out == (
        "adapter_model.bin", "checkpoint-100/", "tokenizer.json", "training_args.bin",
    )  # fmt: skip
    shown = hub.show("my-adapter-v2")
    assert shown.base.name == "other"
    assert shown.lineage["pulled"] == [{"from": "My Adapter (v2)"}]
    assert take(hub, folder, name="mine").published.version == "mine@1"
    with pytest.raises(AdapterRejected, match="trained on 'other', not on 'tiny'"):
        take(hub, folder, name="another", base="tiny")
    nameless = tmp_path / "日本"
    folder.rename(nameless)
    with pytest.raises(InvalidName, match="no name can be made") as refused:
        take(hub, nameless)
    assert "--as" in str(refused.value.hint)


def test_a_parent_that_is_here_is_found_by_its_digest(
    here: LocalHub, make_hub: Callable[..., LocalHub], tmp_path: Path
) -> None:
    """`support@1` of another hub is not the one of this hub: the digest says which is meant; one
    that is not here stays as text."""
    first = here.show("acme/support")
    child = write_adapter(tmp_path / "child", adapter_tensors(1))
    parent = {"parent": "acme/support@1", "parent_digest": first.digest}
    here.publish("acme/support", child, lineage={"kind": "trained", **parent})
    for number in (1, 2):
        push(here, f"acme/support@{number}", str(tmp_path / f"{number}.tar"))
    other = make_hub("other")
    other.publish("acme/support", write_adapter(tmp_path / "x", adapter_tensors(2)), lineage={})
    take(other, tmp_path / "2.tar")
    rows = "SELECT number FROM version_parents JOIN versions ON versions.id = parent_id"
    assert other.registry._db.execute(rows).fetchall() == []
    assert other.show("acme/support@2").lineage["parent"] == "acme/support@1"
    whole = make_hub("whole")
    whole.publish("acme/support", write_adapter(tmp_path / "y", adapter_tensors(3)), lineage={})
    take(whole, tmp_path / "1.tar")
    take(whole, tmp_path / "2.tar")
    assert whole.registry._db.execute(rows).fetchall() == [(2,)]


def test_a_missing_base_is_named_with_the_way_to_add_it(
    here: LocalHub, make_hub: Callable[..., LocalHub], tmp_path: Path
) -> None:
    """A hub without it says which base and revision, and what to run; nothing is written."""
    push(here, "acme/support", str(tmp_path / "sent"))
    fresh = make_hub("fresh", base=None)
    with pytest.raises(UnknownBase, match=r"'tiny' \(revision sha256:w\)") as missing:
        take(fresh, tmp_path / "sent")
    assert "hub base add" in str(missing.value.hint)
    other = make_hub("other", template_sha256="e" * 64)
    with pytest.raises(UnknownBase, match="has another chat template") as differs:
        take(other, tmp_path / "sent")
    assert "--name" in str(differs.value.hint)
    with pytest.raises(AdapterRejected, match="chat template differ"):
        take(other, tmp_path / "sent", base="tiny")
    for hub in (fresh, other):
        assert list(hub.adapters()) == []
        assert not [path for path in hub.home.data.rglob("*") if path.is_file()]


def test_the_gate_is_asked_of_what_arrives(
    make_hub: Callable[..., LocalHub], here: LocalHub, tmp_path: Path
) -> None:
    """The effect check too; a name that is taken by another base's adapter is refused."""
    push(here, "acme/support", str(tmp_path / "sent"))
    there = make_hub("there")
    there._measure_effect = lambda *_: Effect(False, 0.0, 0.0)
    with pytest.raises(AdapterRejected, match="answers the same"):
        take(there, tmp_path / "sent")
    assert list(there.adapters()) == []


def test_another_hub_gives_what_it_has(here: LocalHub, make_hub: Callable[..., LocalHub]) -> None:
    """By address and reference; the lineage keeps the exact version, and no password."""
    asked = []

    @contextmanager
    def open_hub(url: str | None) -> Iterator[Operations]:
        asked.append(url)
        yield here

    there = make_hub("there")
    pulled = pull(there, "http://ann:secret@hub.example:8000/acme/support", open_hub=open_hub)
    assert asked == ["http://ann:secret@hub.example:8000"]
    assert pulled.origin == {"from": "http://hub.example:8000/acme/support@1"}
    assert there.show("acme/support").digest == here.show("acme/support").digest
    for source, words in {
        "http://hub.example:8000": "no address of an adapter",
        "ftp://hub.example/x": "no address of an adapter",
        "http://hub.example/a/b/c": "can't name an adapter",
        "https://huggingface.co/acme/support/tree/main": "is a page",
    }.items():
        with pytest.raises(UsageError, match=words):
            pull(there, source, open_hub=no_hub)


def test_addresses_that_lead_nowhere(here: LocalHub, tmp_path: Path) -> None:
    """The message says what was meant, perhaps, and what may be written."""
    for source, words in {"nowhere": "hf:OWNER/NAME", "acme/support": "hf:acme/support is"}.items():
        with pytest.raises(NotFound, match=f"no folder or file '{source}'") as refused:
            take(here, source)
        assert words in str(refused.value.hint)
    with pytest.raises(UsageError, match="not a place to push to") as elsewhere:
        push(here, "acme/support", "http://127.0.0.1/support")
    assert "hub pull" in str(elsewhere.value.hint)
    for target in ("x", "x.tar"):
        with pytest.raises(TransferError, match="can't be written"):
            push(here, "acme/support", f"/proc/nowhere/{target}")


def test_pull_and_push_from_the_command_line(
    here: LocalHub, hub_of_models: HuggingFaceDouble
) -> None:
    """Where it went is on stdout, the rest beside it; mistakes are one line."""
    hub = Hub(here.home.root)
    sent = hub.ok("push", "acme/support", "out.tar.gz")
    assert (sent.stdout, "acme/support@1" in sent.stderr) == ("out.tar.gz\n", True)
    pulled = hub.ok("pull", "out.tar.gz")
    assert pulled.stdout.startswith("acme/support@1  sha256:")
    assert "nothing changed" in pulled.stderr
    address = hub.ok("push", "acme/support", "hf:acme/support", "--json").json()
    assert address["target"].startswith(f"{hub_of_models.url}/acme/support/commit/")
    result = hub("pull", "nowhere")
    assert (result.status, result.stdout, result.stderr.count("error: ")) == (1, "", 1)
    assert "Traceback" not in result.stderr
