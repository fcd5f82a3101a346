"""API keys: who may ask a server, for what. Made, listed, revoked and recognised here.

A key is `loom_<id>_<secret>`. The id is public and finds the row; of the rest only a SHA-256 is
kept, of the whole key. A slow, salted hash is for passwords, which people choose and others guess:
these 40 letters and digits are drawn at random (238 bits), there is nothing to guess, and a check
costs a microsecond instead of a core for a tenth of a second at every request.

Rows are never changed but for being revoked, and never deleted, so that a history which names a key
can always be understood.

Absent on purpose: when a key was last used (a write for every request; the interaction log has the
key of each), and changing a key (revoke it and make another). Signing keys are in `hub.keys`.
"""

import hmac
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from hub.clock import now, parse_time, stamp
from hub.database import one, transaction
from hub.errors import Conflict, InvalidName, NotFound, UsageError
from hub.facts import KeyFacts, KeyWanted, NewKey
from hub.names import parse_namespace
from hub.sqlite import Database
from hub.who import whoami

INFER, FEEDBACK, ADMIN = SCOPES = ("infer", "feedback", "admin")
PREFIX = "loom"

_SIGNS = string.ascii_letters + string.digits
_SECRET_LENGTH = 40
_ID = re.compile(r"[0-9a-f]{12}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_AGE = re.compile(r"([1-9][0-9]{0,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOST = 1_000_000
# What a key that is not there is compared with: the hash of nothing that could be sent.
_NOBODYS = "0" * 64


@dataclass(frozen=True)
class ApiKey:
    """A living key as a server holds it. `sha256` is hex."""

    facts: KeyFacts
    sha256: str


class ApiKeys:
    def __init__(self, db: Database) -> None:
        self._db = db

    def create(self, wanted: KeyWanted) -> NewKey:
        """Make a key; its secret is in the answer and nowhere else.

        Raises:
            InvalidName: for a name or namespace that breaks the grammar.
            UsageError: for a scope that there is not, a limit below 1, an expiry in the past.
            Conflict: when a key of this name has not been revoked.
        """
        wanted = _checked(wanted)
        public = secrets.token_hex(6)
        secret = "".join(secrets.choice(_SIGNS) for _ in range(_SECRET_LENGTH))
        whole = f"{PREFIX}_{public}_{secret}"
        namespaces = None if wanted.namespaces is None else json.dumps(wanted.namespaces)
        with transaction(self._db):
            if found := self._named(wanted.name):
                state = "is there already" if found.state == "living" else f"has {found.state}"
                raise Conflict(
                    f"a key named '{wanted.name}' {state}",
                    hint=f"Choose another name, or first `hub keys revoke {wanted.name}`.",
                )
            self._db.execute(
                "INSERT INTO api_keys (id, name, sha256, scopes, namespaces, rate_per_minute,"
                " concurrent, created_by, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    public,
                    wanted.name,
                    _hash(whole),
                    json.dumps(wanted.scopes),
                    namespaces,
                    wanted.rate_per_minute,
                    wanted.concurrent,
                    whoami(),
                    now(),
                    wanted.expires_at,
                ],
            )
        return NewKey(self._get(public), whole)

    def all(self) -> list[KeyFacts]:
        """Every key that ever was, oldest first."""
        rows = self._db.query("SELECT * FROM api_keys ORDER BY created_at, id")
        return [_facts(row) for row in rows]

    def revoke(self, name_or_id: str) -> KeyFacts:
        """Revoke a key for good; servers refuse it from their next request on.

        Raises:
            NotFound: when there is no such key that has not been revoked.
        """
        with transaction(self._db):
            found = self._named(name_or_id) or self._unrevoked(name_or_id)
            if found is None:
                raise NotFound(
                    f"there is no living API key {name_or_id[:80]!a}",
                    hint="`hub keys ls` lists them.",
                )
            self._db.execute(
                "UPDATE api_keys SET revoked_by = ?, revoked_at = ? WHERE id = ?",
                [whoami(), now(), found.id],
            )
        return self._get(found.id)

    def living(self, known: Mapping[str, ApiKey] | None = None) -> dict[str, ApiKey]:
        """Those that a server lets in, by id. `known` ones are taken over as they are, since a row
        never changes but for being revoked: reading a thousand again would take milliseconds."""
        at, known = now(), known or {}
        rows = self._db.query(
            "SELECT * FROM api_keys WHERE revoked_at IS NULL"
            " AND (expires_at IS NULL OR expires_at > ?) ORDER BY id",
            [at],
        )
        found: dict[str, ApiKey] = {}
        for row in rows:
            key = known.get(row["id"])
            same = key is not None and key.sha256 == row["sha256"]
            found[row["id"]] = key if key and same else ApiKey(_facts(row), row["sha256"])
        return found

    def _get(self, public: str) -> KeyFacts:
        row = one(self._db, "SELECT * FROM api_keys WHERE id = ?", public)
        assert row is not None
        return _facts(row)

    def _named(self, name: str) -> KeyFacts | None:
        row = one(self._db, "SELECT * FROM api_keys WHERE name = ? AND revoked_at IS NULL", name)
        return _facts(row) if row else None

    def _unrevoked(self, public: str) -> KeyFacts | None:
        row = one(self._db, "SELECT * FROM api_keys WHERE id = ? AND revoked_at IS NULL", public)
        return _facts(row) if row else None


def recognise(keys: Mapping[str, ApiKey], given: str) -> ApiKey | None:
    """The key that a text is, of those `keys` by id; None when it is none of them.

    The same work is done whether there is a key of its id or not, and hashes are compared in
    constant time.
    """
    hashed = _hash(given)
    _, _, rest = given.partition("_")
    key = keys.get(rest.partition("_")[0])
    fits = hmac.compare_digest(key.sha256 if key else _NOBODYS, hashed)
    return key if fits else None


def parse_expiry(text: str) -> str:
    """`90d` (also m, h, w) from now, or an ISO 8601 time, in the hub's spelling of times.

    Raises:
        UsageError: when it is neither.
    """
    if age := _AGE.fullmatch(text):
        return stamp(datetime.now(UTC) + timedelta(**{_UNITS[age[2]]: int(age[1])}))
    try:
        return parse_time(text)
    except UsageError as error:
        raise UsageError(
            f"'{text}' is neither an age nor a time", hint="Write it like 90d, 12h or 2027-05-01."
        ) from error


def _checked(wanted: KeyWanted) -> KeyWanted:
    """The same in canonical order."""
    if not _NAME.fullmatch(wanted.name) or _ID.fullmatch(wanted.name):
        raise InvalidName(
            f"{wanted.name[:80]!a} can't name an API key",
            hint="Use letters, digits, '.', '_' and '-', at most 64, and not just 12 hex digits,"
            " which would look like an id.",
        )
    unknown = [scope for scope in wanted.scopes if scope not in SCOPES]
    if unknown or not wanted.scopes:
        said = f"there is no scope {unknown[0][:80]!a}" if unknown else "a key without a scope"
        raise UsageError(said, hint=f"There are: {', '.join(SCOPES)}.")
    if wanted.namespaces is not None and not wanted.namespaces:
        raise UsageError("a key limited to no namespace at all", hint="Name one, or give no limit.")
    for what, limit in (("rate", wanted.rate_per_minute), ("concurrent", wanted.concurrent)):
        if limit is not None and not 1 <= limit <= _MOST:
            raise UsageError(f"{what} is {limit}", hint=f"Use 1 to {_MOST}, or leave it out.")
    expires_at = None if wanted.expires_at is None else parse_time(wanted.expires_at)
    if expires_at is not None and expires_at <= now():
        raise UsageError(f"the key would have expired at {expires_at}", hint="Give a time to come.")
    namespaces = wanted.namespaces
    if namespaces is not None:
        namespaces = tuple(sorted({parse_namespace(name) for name in namespaces}))
    return replace(
        wanted,
        scopes=tuple(scope for scope in SCOPES if scope in wanted.scopes),
        namespaces=namespaces,
        expires_at=expires_at,
    )


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _facts(row: dict[str, Any]) -> KeyFacts:
    expired = row["expires_at"] is not None and row["expires_at"] <= now()
    state = "revoked" if row["revoked_at"] else "expired" if expired else "living"
    namespaces = json.loads(row["namespaces"]) if row["namespaces"] is not None else None
    return KeyFacts(
        id=row["id"],
        name=row["name"],
        scopes=tuple(json.loads(row["scopes"])),
        namespaces=None if namespaces is None else tuple(namespaces),
        rate_per_minute=row["rate_per_minute"],
        concurrent=row["concurrent"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_by=row["revoked_by"],
        revoked_at=row["revoked_at"],
        state=state,
    )


def carry_revocations(new: Database, live: Database | None) -> None:
    """Before a backup takes the place of what is live: what was revoked since stays revoked."""
    if live is None or "api_keys" not in live.table_names():
        return
    with transaction(new):
        for row in list(live.query("SELECT * FROM api_keys WHERE revoked_at IS NOT NULL")):
            new.execute(
                "UPDATE api_keys SET revoked_by = ?, revoked_at = ?"
                " WHERE id = ? AND revoked_at IS NULL",
                [row["revoked_by"], row["revoked_at"], row["id"]],
            )
