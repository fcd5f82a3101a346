"""The signatures that the registry keeps, beside the versions that they are of.

Only what fits the version's own manifest gets in, whoever made it; whether its key is trusted is
asked where it matters (`hub verify --key`, `hub serve --signed-by`). Append only: a signature is
never replaced, and signing again with the same key changes nothing.
"""

from dataclasses import astuple, replace

from hub.clock import parse_time
from hub.database import transaction
from hub.errors import BadSignature
from hub.facts import SignatureFacts
from hub.records import Version
from hub.signing import check_signature
from hub.sqlite import Database

_COLUMNS = "key_id, public_key, signature, signed_by, signed_at"
_LONGEST_NAME = 200


class Signatures:
    def __init__(self, db: Database) -> None:
        self._db = db

    def of(self, version: Version) -> tuple[SignatureFacts, ...]:
        """Oldest first."""
        rows = self._db.query(
            f"SELECT {_COLUMNS} FROM signatures WHERE version_id = ? ORDER BY signed_at, key_id",
            [version.id],
        )
        return tuple(SignatureFacts(**row) for row in rows)

    def all(self) -> dict[int, tuple[SignatureFacts, ...]]:
        """Of every version that has any, by its row's id, in one query."""
        found: dict[int, list[SignatureFacts]] = {}
        for row in self._db.query(
            f"SELECT version_id, {_COLUMNS} FROM signatures ORDER BY signed_at, key_id"
        ):
            found.setdefault(row.pop("version_id"), []).append(SignatureFacts(**row))
        return {version_id: tuple(signatures) for version_id, signatures in found.items()}

    def add(self, version: Version, signature: SignatureFacts) -> None:
        """Keep a signature of a version.

        Raises:
            BadSignature: when it is not one of this version's manifest.
            UsageError: when `signed_at` is not a time.
            MissingExtra: when `cryptography` is not installed.
        """
        key = check_signature(version.manifest.to_json(), signature)
        name = signature.signed_by
        if len(name) > _LONGEST_NAME or not name.isprintable():
            raise BadSignature(f"`signed_by` is not a name of up to {_LONGEST_NAME} characters")
        kept = replace(signature, public_key=key.line, signed_at=parse_time(signature.signed_at))
        with transaction(self._db):
            self._db.execute(
                f"INSERT OR IGNORE INTO signatures (version_id, {_COLUMNS})"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [version.id, *astuple(kept)],
            )
