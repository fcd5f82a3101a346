"""A version on its way to another hub: a folder in PEFT layout, and `loom.json` beside it.

    adapter_config.json  adapter_model.safetensors   the version's files, byte for byte
    README.md                                        its card
    loom.json                                        its name, number, manifest, lineage, signatures

The folder alone is what peft, vLLM and the Hugging Face Hub read. With loom.json another hub knows
the version again: its digest is over the manifest, and the manifest is over the files. Whoever can
change the folder can change both, so what shows where a version comes from are its signatures.

Absent on purpose: aliases and evaluations, which are one hub's decisions about a version.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hub.adapterfile import CONFIG, FILES, WEIGHTS
from hub.errors import AdapterRejected, InvalidData, InvalidName
from hub.facts import SignatureFacts, VersionFacts
from hub.filenames import refused_path
from hub.manifest import Manifest
from hub.names import parse_name
from hub.operations import Operations
from hub.strictjson import read_json

NOTE = "loom.json"
CARD = "README.md"
SCHEMA = 1
# A lineage is some kilobytes; whatever is this large is something else.
_LARGEST_NOTE = 16 * 2**20
_PICKLES = ("adapter_model.bin", "adapter_model.pt", "adapter_model.pth")


@dataclass(frozen=True)
class Parcel:
    """What loom.json says; `manifest` is canonical JSON."""

    name: str
    number: int
    manifest: str
    lineage: dict[str, Any]
    signatures: tuple[SignatureFacts, ...]


def pack(hub: Operations, reference: str, folder: Path) -> VersionFacts:
    """Put a version and its loom.json into `folder`, which is not there yet.

    Raises:
        UnknownReference: when there is no such version.
        IntegrityError: when what the hub has is not what it published.
    """
    facts = hub.fetch(reference, folder)
    manifest = Manifest.from_json(hub.manifest(facts.version))
    note = {
        "schema": SCHEMA,
        "name": facts.adapter,
        "number": facts.number,
        "digest": facts.digest,
        "manifest": json.loads(manifest.to_json()),
        "lineage": facts.lineage,
        "signatures": [asdict(signature) for signature in facts.signatures],
    }
    text = json.dumps(note, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    (folder / NOTE).write_text(text + "\n", encoding="utf-8")
    return facts


def read_parcel(folder: Path) -> Parcel | None:
    """What a folder's loom.json says, None where there is none.

    Raises:
        InvalidData: when it is not one that this release reads.
    """
    path = folder / NOTE
    if not path.exists() and not path.is_symlink():
        return None
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_NOTE:
        raise InvalidData("not a plain file that `hub push` writes", where=str(path), hint=_WITHOUT)
    try:
        note: Any = read_json(path.read_text(encoding="utf-8"))
        if note["schema"] != SCHEMA:
            raise InvalidData(
                f"schema {note['schema']}, and this release reads {SCHEMA} only",
                where=str(path),
                hint="A newer release of Loom reads it.",
            )
        manifest = Manifest.from_json(json.dumps(note["manifest"]))
        lineage = note["lineage"]
        if manifest.digest() != note["digest"] or not isinstance(lineage, dict):
            raise InvalidData("its digest is not its manifest's", where=str(path), hint=_WITHOUT)
        signatures = tuple(
            SignatureFacts(**{key: str(value) for key, value in signature.items()})
            for signature in note["signatures"]
        )
        name = parse_name(str(note["name"]))
        return Parcel(name, _number(note["number"]), manifest.to_json(), lineage, signatures)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, InvalidName) as error:
        raise InvalidData(
            f"not a file that `hub push` writes ({error})", where=str(path), hint=_WITHOUT
        ) from error


def _number(found: Any) -> int:
    if type(found) is not int or found < 1:
        raise ValueError("its number is not a version's")
    return found


def sort_out(paths: Iterable[str], where: str) -> tuple[list[str], list[str]]:
    """Of the paths in a listing: the files that a version is made from, and what is left out.

    Paths are relative to the adapter's folder. What is left out is named once per folder, and
    hidden files not at all.

    Raises:
        AdapterRejected: when a path leads out of the folder, the adapter's files are not among
            them, or a pickle stands in for the weights.
    """
    wanted, left_out = [], set()
    for path in paths:
        if reason := refused_path(path):
            raise AdapterRejected(f"{path!a} {reason}", check="files", where=where)
        top, *below = PurePosixPath(path).parts
        if not below and top in (*FILES, NOTE, CARD):
            wanted.append(top)
        elif not top.startswith("."):
            left_out.add(f"{top}/" if below else top)
    pickle = next((name for name in _PICKLES if name in left_out), None)
    if WEIGHTS not in wanted and pickle:
        raise AdapterRejected(
            "the weights are a pickle, which can run code when it is loaded",
            check="files",
            where=f"{where}: {pickle}",
            hint="Save them again with save_pretrained(safe_serialization=True).",
        )
    for name in FILES:
        if name not in wanted:
            raise AdapterRejected(
                f"no {name}, so it is not a PEFT adapter" if name == CONFIG else f"no {name}",
                check="files",
                where=where,
                hint="PEFT's save_pretrained makes it.",
            )
    # A card is made anew from what is known of the version here.
    return sorted(name for name in wanted if name != CARD), sorted(left_out)


_WITHOUT = "Get it again; without loom.json it is an adapter like any other."
