"""A version's manifest: what its bytes are. Its sha256 is the version's digest.

The manifest holds content only (base identity and files), never circumstances (who, when, from
which run): those are lineage and live beside it in the registry. So the same bytes published twice
have the same digest, and a digest proves the content wherever it travels.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from hub.errors import InvalidData

SCHEMA = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CHUNK = 1 << 20


@dataclass(frozen=True, order=True)
class FileEntry:
    """One file of a version: POSIX path inside it, sha256 in hex, size in bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class BaseIdentity:
    """What an adapter depends on in its base; hashes are sha256 in hex, '' where there is none.

    `revision` is the commit of a model on the Hugging Face Hub, or `sha256:…` over the weights of
    a folder. `name` is for people: two bases are the same to an adapter when the rest agrees.
    """

    name: str
    revision: str
    config_sha256: str
    tokenizer_sha256: str
    template_sha256: str

    def digest(self) -> str:
        """Identity by content: the name does not count."""
        facts = asdict(self)
        del facts["name"]
        return sha256_of_json(facts)


@dataclass(frozen=True)
class Manifest:
    base: BaseIdentity
    files: tuple[FileEntry, ...]

    def to_json(self) -> str:
        return canonical_json(
            {
                "schema": SCHEMA,
                "base": asdict(self.base),
                "files": [asdict(entry) for entry in sorted(self.files)],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Manifest":
        """Raises InvalidData when the text is no manifest that this release reads."""
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw["schema"] != SCHEMA:
                raise InvalidData(
                    f"a manifest of schema {raw['schema']}, and this release of Loom reads"
                    f" {SCHEMA} only",
                    hint="A newer release reads it.",
                )
            base = BaseIdentity(**raw["base"])
            files = tuple(FileEntry(**entry) for entry in raw["files"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidData("not a version's manifest") from error
        if not all(isinstance(fact, str) for fact in astuple(base)) or not all(
            isinstance(entry.path, str)
            and isinstance(entry.size, int)
            and _SHA256.fullmatch(str(entry.sha256))
            for entry in files
        ):
            raise InvalidData("not a version's manifest")
        return cls(base, files)

    def digest(self) -> str:
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)


def canonical_json(value: object) -> str:
    """One spelling for one value: sorted keys, no spaces, UTF-8 as it is, no NaN."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_of_json(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def sha256_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def describe(path: Path, name: str) -> FileEntry:
    """A file's entry under `name`."""
    return FileEntry(name, sha256_of_file(path), path.stat().st_size)


def sha256_of_files(paths: Iterable[Path]) -> str:
    """One hash over the names and hashes of several files; '' for none."""
    facts = [[path.name, sha256_of_file(path)] for path in sorted(paths)]
    return sha256_of_json(facts) if facts else ""
