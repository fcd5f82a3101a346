"""Moving adapters: into this hub from wherever they lie, and out of it.

    pull   a PEFT folder · a tar · hf:owner/name[@revision] · http(s)://host:port/support@3
    push   a folder      · a tar · hf:owner/name[@branch]

Everything that comes in goes through the publish gate. What a hub has pushed brings its loom.json:
it keeps its digest, lineage and signatures, and finds its base by content. What goes out is put
together beside its place and appears there whole.
"""

import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import unquote, urlsplit

from hub import archive, huggingface
from hub.errors import InvalidName, NotFound, TransferError, UsageError
from hub.facts import Published
from hub.filenames import require_free
from hub.names import parse_adapter_reference, parse_name
from hub.operations import Operations
from hub.parcel import Parcel, pack, read_parcel, sort_out

# Opens the hub at an address, and closes it.
OpenHub = Callable[[str], AbstractContextManager[Operations]]
# Of one part of a name, as `hub.names` has it.
_LONGEST = 64
_OTHER_ARCHIVES = (".zip", ".7z", ".rar", ".gz", ".bz2", ".tbz2", ".xz", ".txz", ".zst")


@dataclass(frozen=True)
class Pulled:
    """What came of a pull. `named_after` is '' where the name was given or came with the version;
    `origin` is what its lineage says of the journey; `left_out` are files that no version has."""

    published: Published
    origin: dict[str, Any]
    named_after: str
    left_out: tuple[str, ...]


@dataclass(frozen=True)
class Pushed:
    """`target` is where the version lies now; `commit` and `private` are of the Hugging Face Hub,
    None elsewhere."""

    version: str
    digest: str
    target: str
    commit: str | None = None
    private: bool | None = None


@dataclass(frozen=True)
class _Arrival:
    """A folder at hand: where it came from (for the lineage), and what its place is called."""

    folder: Path
    origin: dict[str, Any]
    called: str
    left_out: list[str]


def pull(
    hub: Operations,
    source: str,
    *,
    name: str | None = None,
    base: str | None = None,
    open_hub: OpenHub,
) -> Pulled:
    """Publish what lies at `source`; the same bytes pulled again are the version that they were.

    `name` is what to call it: by default as it was called in its hub, else like the folder, file or
    repository. `base` is needed only for an adapter without loom.json whose config does not name
    one of this hub's bases, and that does not stand on the default one.

    Raises:
        UsageError: when `source` is no address.
        NotFound: when nothing is there.
        InvalidData: when the tar or loom.json can't be read.
        TransferError: when another place refuses or can't be reached.
        UnknownBase: when its base is not in this hub.
        AdapterRejected, IntegrityError, BadSignature: when the publish gate refuses it.
    """
    if name is not None:
        parse_name(name)
    with tempfile.TemporaryDirectory(prefix="loom-") as scratch:
        arrival = _fetch(source, Path(scratch), open_hub)
        parcel = read_parcel(arrival.folder)
        chosen = name or (parcel.name if parcel else name_from(arrival.called))
        published = hub.publish(
            chosen,
            arrival.folder,
            base=base,
            lineage=_lineage(arrival, parcel),
            manifest=parcel.manifest if parcel else None,
            signatures=parcel.signatures if parcel else (),
        )
    named_after = "" if name or parcel else arrival.called
    return Pulled(published, arrival.origin, named_after, tuple(arrival.left_out))


def push(hub: Operations, reference: str, target: str, *, public: bool = False) -> Pushed:
    """Copy a version out: to a folder that is not there yet or is empty, to a tar (replacing one),
    or to the Hugging Face Hub, where a repository that is missing is made, private unless `public`.

    Raises:
        UsageError: when `target` is no address.
        UnknownReference: when there is no such version.
        Conflict: when something is in the folder.
        NotFound, TransferError: when the other place refuses or can't be reached.
    """
    if target.startswith(huggingface.SCHEME):
        return _push_to_hugging_face(hub, reference, huggingface.parse_repository(target), public)
    if "://" in target:
        raise UsageError(
            f"'{target}' is not a place to push to",
            hint="Name a folder, a .tar or .tar.gz, or hf:OWNER/NAME. Another hub pulls by itself:"
            " `hub pull http://THIS_HOST:PORT/NAME` there.",
        )
    if public:
        raise UsageError("--public is about a repository on the Hugging Face Hub, not a path")
    if not target.strip():
        raise UsageError("the target is empty", hint="Name a folder, a .tar or hf:OWNER/NAME.")
    path = Path(target).expanduser()
    if path.suffix.lower() in _OTHER_ARCHIVES and not path.is_dir() and not _is_tar(path):
        raise UsageError(
            f"'{target}' is called like an archive that is not written here",
            hint=f"Name a {', '.join(archive.SUFFIXES)} or, for a folder of this name, make it"
            " first.",
        )
    if not target.endswith("/") and _is_tar(path) and not path.is_dir():
        return _push_to_tar(hub, reference, path)
    return _push_to_folder(hub, reference, path)


def name_from(text: str) -> str:
    """A name for an adapter, made of what its folder, file or repository is called.

    Raises:
        InvalidName: when nothing of it can be in a name.
    """
    part = re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("._-")[:_LONGEST]
    try:
        return parse_name(part)
    except InvalidName as error:
        raise InvalidName(
            f"no name can be made of '{text}'", hint="Choose one with --as NAME."
        ) from error


def _fetch(source: str, scratch: Path, open_hub: OpenHub) -> _Arrival:
    if source.startswith(huggingface.SCHEME):
        repository = huggingface.parse_repository(source)
        commit, left_out = huggingface.download(repository, scratch)
        origin = {"from": f"{huggingface.SCHEME}{repository.repo}", "commit": commit}
        return _Arrival(scratch, origin, repository.repo.partition("/")[2], left_out)
    if "://" in source:
        return _from_hub(source, scratch, open_hub)
    path = Path(source).expanduser()
    origin = {"from": path.resolve().name}
    if path.is_dir():
        names = [f"{entry.name}/*" if entry.is_dir() else entry.name for entry in path.iterdir()]
        _, left_out = sort_out(names, str(path))
        return _Arrival(path, origin, path.resolve().name, left_out)
    if path.is_file():
        left_out = archive.read_tar(path, scratch)
        suffix = next((end for end in archive.SUFFIXES if path.name.endswith(end)), "")
        return _Arrival(scratch, origin, path.name.removesuffix(suffix), left_out)
    near = f"hf:{source} is how a repository is named. " if source.count("/") == 1 else ""
    raise NotFound(
        f"there is no folder or file '{source}'",
        hint=f"{near}A source is a folder, a tar, hf:OWNER/NAME[@REVISION] or"
        " http://HOST:PORT/NAME@3.",
    )


def _from_hub(source: str, scratch: Path, open_hub: OpenHub) -> _Arrival:
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise UsageError(
            f"{source[:200]!a} is no address of an adapter",
            hint="Write http://HOST:PORT/NAME@3: a hub's address and a reference.",
        ) from error
    reference = unquote(parts.path).strip("/")
    if parts.scheme not in ("http", "https") or not parts.netloc or not reference:
        raise UsageError(
            f"'{source}' is no address of an adapter",
            hint="Write http://HOST:PORT/NAME@3: a hub's address and a reference.",
        )
    if parts.hostname in ("huggingface.co", "www.huggingface.co", "hf.co"):
        repo = "/".join(reference.split("/")[:2])
        raise UsageError(f"'{source}' is a page", hint=f"Name the repository: hf:{repo}.")
    parse_adapter_reference(reference)
    address = f"{parts.scheme}://{parts.netloc}"
    with open_hub(address) as other:
        facts = pack(other, reference, scratch / "adapter")
    # As it is kept for ever: the exact version, and without a password.
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{facts.version}"
    return _Arrival(scratch / "adapter", {"from": shown}, facts.adapter, [])


def _lineage(arrival: _Arrival, parcel: Parcel | None) -> dict[str, Any]:
    """What came with the version, and one more stop of its journey."""
    if parcel is None:
        return {"kind": "imported", "source": arrival.called, "pulled": [arrival.origin]}
    stop = {**arrival.origin, "version": f"{parcel.name}@{parcel.number}"}
    earlier = parcel.lineage.get("pulled")
    return {
        **parcel.lineage,
        "pulled": [*(earlier if isinstance(earlier, list) else []), stop],
    }


def _is_tar(path: Path) -> bool:
    return path.name.endswith(archive.SUFFIXES)


def _push_to_folder(hub: Operations, reference: str, target: Path) -> Pushed:
    require_free(target)
    # Beside its place, so that it appears there whole or not at all.
    scratch = target.absolute().parent / f".{target.name}.{token_hex(4)}"
    try:
        facts = pack(hub, reference, scratch)
        scratch.rename(target)
    except OSError as error:
        raise TransferError(
            f"the folder can't be written ({error.strerror})", where=str(target)
        ) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Pushed(facts.version, facts.digest, str(target))


def _push_to_tar(hub: Operations, reference: str, target: Path) -> Pushed:
    with tempfile.TemporaryDirectory(prefix="loom-") as scratch:
        folder = Path(scratch) / "version"
        facts = pack(hub, reference, folder)
        archive.write_tar(folder, target, top=facts.version.rpartition("/")[2])
    return Pushed(facts.version, facts.digest, str(target))


def _push_to_hugging_face(
    hub: Operations, reference: str, target: huggingface.Repository, public: bool
) -> Pushed:
    with tempfile.TemporaryDirectory(prefix="loom-") as scratch:
        folder = Path(scratch) / "version"
        facts = pack(hub, reference, folder)
        message = f"{facts.version} sha256:{facts.digest[:12]}"
        sent = huggingface.upload(folder, target, message=message, public=public)
    return Pushed(facts.version, facts.digest, sent.address, sent.commit, sent.private)
