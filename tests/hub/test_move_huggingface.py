"""Moving adapters to and from the Hugging Face Hub, by its own client."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hub.errors import (
    AdapterRejected,
    HubError,
    NotFound,
    TransferError,
    UsageError,
)
from hub.local import LocalHub
from hub.transfer import push
from tests.conftest import write_adapter
from tests.hub.hugging_face_double import HuggingFaceDouble
from tests.hub.moving import FILES, contents, here, hub_of_models, make_hub, take

__all__ = ["here", "hub_of_models", "make_hub"]


def test_one_commit_in_a_repository(
    here: LocalHub, hub_of_models: HuggingFaceDouble, tmp_path: Path
) -> None:
    """A missing repository is made, private unless told otherwise; pushing what is there already
    makes no commit; a branch that is named is made; what else is in the repository stays."""
    first = push(here, "acme/support", "hf:acme/first")
    repo = hub_of_models.repos["acme/first"]
    assert repo.messages == [f"acme/support@1 sha256:{first.digest[:12]}"]
    assert repo.commits[first.commit or ""].keys() == {*FILES, "README.md", "loom.json"}
    assert (
        repo.commits[first.commit or ""][FILES[1]] == (tmp_path / "trained" / FILES[1]).read_bytes()
    )
    assert (repo.private, first.private) == (True, True)
    assert push(here, "acme/support", "hf:acme/first").commit == first.commit
    assert len(repo.commits) == 1
    assert push(here, "acme/support", "hf:acme/open", public=True).private is False
    hub_of_models.add("acme/shared", {"notes.txt": b"ours"})
    push(here, "acme/support", "hf:acme/shared@v1")
    shared = hub_of_models.repos["acme/shared"]
    assert shared.commits[shared.branches["main"]].keys() == {"notes.txt"}
    assert {"notes.txt", "loom.json"} < shared.commits[shared.branches["v1"]].keys()
    with pytest.raises(UsageError, match="--public"):
        push(here, "acme/support", str(tmp_path / "x"), public=True)


def test_adapters_of_others_on_the_hub(
    make_hub: Callable[..., LocalHub], hub_of_models: HuggingFaceDouble, tmp_path: Path
) -> None:
    """A repository that Loom has not written: by branch or commit, which the lineage records."""
    files = contents(write_adapter(tmp_path / "a"))
    commit = hub_of_models.add("someone/Tiny-LoRA", {**files, "tokenizer/vocab.json": b"{}"})
    hub = make_hub("hub")
    pulled = take(hub, "hf:someone/Tiny-LoRA")
    assert (pulled.published.version, pulled.named_after) == ("tiny-lora@1", "Tiny-LoRA")
    assert pulled.left_out == ("tokenizer/",)
    assert hub.show("tiny-lora").lineage["pulled"] == [
        {"from": "hf:someone/Tiny-LoRA", "commit": commit}
    ]
    again = take(hub, f"hf:someone/Tiny-LoRA@{commit}")
    assert (again.published.version, again.published.created) == ("tiny-lora@1", False)


REPOSITORIES = {
    "pickle": ({"adapter_config.json": b"{}", "adapter_model.bin": b"x"}, "a pickle"),
    "whole model": ({"model.safetensors": b"x"}, "no adapter_config.json"),
    "hostile": ({"../../evil": b"x"}, "leads out of its folder"),
}


@pytest.mark.parametrize("kind", REPOSITORIES)
def test_repositories_that_hold_no_adapter(
    make_hub: Callable[..., LocalHub], hub_of_models: HuggingFaceDouble, kind: str
) -> None:
    """They are refused by their listing: nothing is downloaded."""
    files, words = REPOSITORIES[kind]
    hub_of_models.add("someone/x", files)
    with pytest.raises(AdapterRejected, match=words) as refused:
        take(make_hub("hub"), "hf:someone/x")
    assert "hf:someone/x" in str(refused.value)


def test_what_the_hub_refuses_is_said_plainly(
    here: LocalHub, hub_of_models: HuggingFaceDouble, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Missing, private, gated, no such revision, not logged in, offline, unreachable."""
    import huggingface_hub.constants

    hub_of_models.add("acme/gated", {}, gated=True)
    hub_of_models.add("acme/there", contents(write_adapter(tmp_path / "x")))
    cases: list[tuple[str, type[HubError], str, str]] = [
        ("hf:acme/none", NotFound, "no such repository", "hf auth login"),
        ("hf:acme/gated", TransferError, "gated", "Ask for access"),
        ("hf:acme/there@v9", NotFound, "no such revision", "branch, tag or commit"),
        ("hf:acme", UsageError, "no repository", "hf:OWNER/NAME"),
    ]
    for source, kind, words, todo in cases:
        with pytest.raises(kind, match=words) as refused:
            take(here, source)
        assert todo in str(refused.value.hint)
        assert source.partition("@")[0] in str(refused.value)
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    with pytest.raises(TransferError, match=r"refuses this account \(401") as stranger:
        push(here, "acme/support", "hf:acme/new")
    assert "HF_TOKEN" in str(stranger.value.hint)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TransferError, match="can't be used"):
        take(here, "hf:acme/there")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(TransferError, match="offline"):
        take(here, "hf:acme/there")
