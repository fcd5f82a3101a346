"""Adapters on the Hugging Face Hub, through its own client.

Where it is, who asks and whether it may be asked at all is what that client reads: HF_ENDPOINT,
HF_TOKEN or `hf auth login`, HF_HUB_OFFLINE.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hub.errors import AdapterRejected, HubError, MissingExtra, NotFound, TransferError, UsageError
from hub.parcel import sort_out

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf:"
_ADDRESS = re.compile(r"hf:(?P<repo>[\w.-]{1,96}/[\w.-]{1,96})(?:@(?P<revision>[\w./-]{1,255}))?")


@dataclass(frozen=True)
class Repository:
    """`revision` is a branch, tag or commit; None means the default branch."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repo}" + (f"@{self.revision}" if self.revision else "")


@dataclass(frozen=True)
class Sent:
    """`address` is the commit's page."""

    address: str
    commit: str
    private: bool


def parse_repository(text: str) -> Repository:
    """Raises UsageError unless it is hf:OWNER/NAME or hf:OWNER/NAME@REVISION."""
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise UsageError(
            f"'{text}' is no repository on the Hugging Face Hub",
            hint="Write hf:OWNER/NAME, or hf:OWNER/NAME@REVISION.",
        )
    return Repository(match["repo"], match["revision"])


def download(source: Repository, folder: Path) -> tuple[str, list[str]]:
    """Fetch an adapter's files into `folder`; the commit that they are of, and what was left out.

    Raises:
        NotFound: when there is no such repository or revision, or it is private.
        TransferError: when the Hub refuses or can't be reached.
        AdapterRejected: when the repository holds no adapter that can be published.
    """
    with _asking(source) as api:
        info = api.model_info(source.repo, revision=source.revision)
        commit = str(info.sha)
        wanted, left_out = sort_out((file.rfilename for file in info.siblings or ()), str(source))
        for name in wanted:
            path = Path(api.hf_hub_download(source.repo, name, revision=commit, local_dir=folder))
            if path != folder / name or path.is_symlink() or not path.is_file():
                raise AdapterRejected(f"{name} is not a plain file", check="files",
                                      where=str(source))  # fmt: skip
    return commit, left_out


def upload(folder: Path, target: Repository, *, message: str, public: bool) -> Sent:
    """Send a folder's files as one commit; the repository is made if it is missing.

    `public` counts only for a repository that is made: one that exists keeps its visibility. Files
    that the repository has besides stay.

    Raises:
        NotFound: when the account may not see the repository.
        TransferError: when the Hub refuses or can't be reached.
    """
    with _asking(target) as api:
        from huggingface_hub import CommitOperationAdd

        api.create_repo(target.repo, private=not public, exist_ok=True)
        if target.revision is not None:
            api.create_branch(target.repo, branch=target.revision, exist_ok=True)
        commit = api.create_commit(
            target.repo,
            [CommitOperationAdd(path.name, str(path)) for path in sorted(folder.iterdir())],
            commit_message=message,
            revision=target.revision,
        )
        info = api.model_info(target.repo)
    return Sent(str(commit.commit_url), str(commit.oid), bool(info.private))


@contextmanager
def _asking(repository: Repository) -> "Iterator[HfApi]":
    """The client, and its errors in plain words. Raises MissingExtra."""
    try:
        from huggingface_hub import HfApi
        from huggingface_hub import errors as theirs
    except ImportError as error:
        raise MissingExtra(
            "the Hugging Face Hub needs huggingface_hub, which the core leaves out",
            hint="Install it: pip install 'lora-loom[hf]'; [cpu] or [gpu] holds everything.",
        ) from error

    where = str(repository)
    try:
        yield HfApi(library_name="loom")
    except HubError:
        raise
    except theirs.GatedRepoError as error:
        raise TransferError(
            "the repository is gated, and this account has no access",
            where=where,
            hint="Ask for access on its page, then log in: `hf auth login`, or HF_TOKEN.",
        ) from error
    except theirs.RevisionNotFoundError as error:
        raise NotFound(
            "the repository has no such revision",
            where=where,
            hint="Write hf:OWNER/NAME@REVISION with a branch, tag or commit of it.",
        ) from error
    except theirs.RepositoryNotFoundError as error:
        raise NotFound(
            "there is no such repository on the Hugging Face Hub, or it is private",
            where=where,
            hint="Check its name; for a private one log in: `hf auth login`, or HF_TOKEN.",
        ) from error
    except theirs.HfHubHTTPError as error:
        raise _refused(error, where) from error
    except Exception as error:
        # The client lets through the errors of its HTTP library, which is not the same one in all
        # of its releases; and a ValueError of its own for what the Hub finds wrong with a card.
        reason = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
        raise TransferError(
            f"the Hugging Face Hub can't be used: {reason}",
            where=where,
            hint="Check the network, HF_ENDPOINT and HF_HUB_OFFLINE.",
        ) from error


def _refused(error: Exception, where: str) -> TransferError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = getattr(error, "server_message", None) or next(iter(str(error).splitlines()), "")
    if status in (401, 403):
        return TransferError(
            f"the Hugging Face Hub refuses this account ({status}: {said})",
            where=where,
            hint="Log in with a token that may do it: `hf auth login`, or HF_TOKEN.",
        )
    return TransferError(f"the Hugging Face Hub refuses ({said})", where=where)
