"""Moving adapters: what was changed on the way, and what is dangerous, is refused."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.errors import (
    AdapterRejected,
    BadSignature,
    HubError,
    IntegrityError,
    InvalidData,
)
from hub.local import LocalHub
from hub.transfer import push
from tests.conftest import write_adapter
from tests.hub.moving import FILES, here, hub_of_models, make_hub, take

__all__ = ["here", "hub_of_models", "make_hub"]


def _flip(folder: Path) -> None:
    path = folder / FILES[1]
    spoiled = bytearray(path.read_bytes())
    spoiled[-1] ^= 1
    path.write_bytes(spoiled)


def _note(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        note = json.loads((folder / "loom.json").read_text())
        change(note)
        (folder / "loom.json").write_text(json.dumps(note))

    return spoil


def _resign(note: dict[str, Any]) -> None:
    note["signatures"][0]["signature"] = "A" * 86 + "=="


def _linked(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).rename(folder.parent / "elsewhere")
        (folder / name).symlink_to(folder.parent / "elsewhere")

    return spoil


def _text(text: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "loom.json").write_text(text)

    return spoil


def _pickle(folder: Path) -> None:
    (folder / FILES[1]).rename(folder / "adapter_model.bin")


SPOILED: dict[str, tuple[Callable[[Path], None], type[HubError], str]] = {
    "a flipped byte": (_flip, IntegrityError, "adapter_model.safetensors: .*not the one"),
    "another digest": (_note(lambda n: n.update(digest="0" * 64)), InvalidData, "not its manifest"),
    "no JSON": (_text("{"), InvalidData, "not a file"),
    "a list": (_text("[]"), InvalidData, "not a file"),
    "a later schema": (_note(lambda n: n.update(schema=2)), InvalidData, "schema 2"),
    "a hostile name": (_note(lambda n: n.update(name="../x")), InvalidData, "can't name"),
    "a hostile path": (
        _note(lambda n: n["manifest"]["files"][0].update(path="../../x")), InvalidData, "digest",
    ),
    "a wrong signature": (_note(_resign), BadSignature, "not of this manifest"),
    "a linked note": (_linked("loom.json"), InvalidData, "not a plain file"),
    "linked weights": (_linked(FILES[1]), AdapterRejected, "symbolic link"),
    "no weights": (lambda f: (f / FILES[1]).unlink(), AdapterRejected, FILES[1]),
    "a pickle": (_pickle, AdapterRejected, "pickle"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPOILED)
def test_a_parcel_that_was_changed_is_refused(
    here: LocalHub, make_hub: Callable[..., LocalHub], tmp_path: Path, fault: str
) -> None:
    """Each by its own message, and nothing of it stays in the hub."""
    spoil, kind, words = SPOILED[fault]
    push(here, "acme/support", str(tmp_path / "sent"))
    spoil(tmp_path / "sent")
    there = make_hub("there")
    with pytest.raises(kind, match=words):
        take(there, tmp_path / "sent")
    assert list(there.adapters()) == []
    assert not [path for path in there.home.data.rglob("*") if path.is_file()]


def _member(name: str, **facts: Any) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    for key, value in facts.items():
        setattr(member, key, value)
    return member


HOSTILE = {
    "up": (_member("../evil"), "leads out of its folder"),
    "up inside": (_member("a/../../evil"), "leads out of its folder"),
    "absolute": (_member("/tmp/evil"), "absolute path"),
    "symbolic link": (_member("x", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "symbolic link"),
    "hard link": (_member("x", type=tarfile.LNKTYPE, linkname="adapter_config.json"), "hard link"),
    "device": (_member("x", type=tarfile.CHRTYPE), "neither a file nor a folder"),
    "twice": (_member("./adapter_config.json"), "twice"),
    "two adapters": (_member("b/adapter_config.json"), ""),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_hostile_tar_is_refused(
    make_hub: Callable[..., LocalHub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """Before a byte of it is written anywhere."""
    member, words = HOSTILE[fault]
    folder = write_adapter(tmp_path / "a")
    top = "a/" if fault == "two adapters" else ""
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in FILES:
            tar.add(folder / name, f"{top}{name}")
        tar.addfile(member, io.BytesIO())
    hub = make_hub("hub")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(AdapterRejected, match=words or "2 adapters in one tar: a/, b/") as refused:
        take(hub, tmp_path / "x.tar")
    assert refused.value.check == "files"
    assert set(tmp_path.rglob("*")) == before


def test_what_is_no_tar(make_hub: Callable[..., LocalHub], here: LocalHub, tmp_path: Path) -> None:
    """Cut short, empty or something else: one sentence."""
    hub = make_hub("hub")
    push(here, "acme/support", str(tmp_path / "whole.tar.gz"))
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    for name, content in {
        "cut.tar.gz": whole[: len(whole) // 2],
        "text.tar": b"hello",
        "empty.tar": b"",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InvalidData, match=name):
            take(hub, tmp_path / name)
    assert list(hub.adapters()) == []


def test_a_tar_that_others_made(make_hub: Callable[..., LocalHub], tmp_path: Path) -> None:
    """With the adapter at the top or in a folder, beside whatever else."""
    folder = write_adapter(tmp_path / "a")
    (folder / "special_tokens_map.json").write_text("{}")
    hub = make_hub("hub")
    shutil.make_archive(str(tmp_path / "flat"), "gztar", folder)
    shutil.make_archive(str(tmp_path / "nested"), "tar", tmp_path, "a")
    for name in ("flat.tar.gz", "nested.tar"):
        pulled = take(hub, tmp_path / name)
        assert pulled.published.version == f"{name.partition('.')[0]}@1"
        assert pulled.left_out == ("special_tokens_map.json",)
