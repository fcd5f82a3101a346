"""A hub at an address, answering `hub.operations`: what `hub.local` does, done there.

Every method is one request (a list: one a page, as it is gone through), and its answer is the
record that the hub's own machine would have given, but for `folder`. Errors are those of the hub.

Publishing sends only the files that the hub does not have, and then asks for the version, which the
hub makes in one transaction. However this process dies, the hub has the whole version or none;
files that no version came to name go with `hub gc` there.
"""

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import quote

from hub.address import Address, quoted
from hub.errors import FilesMissing, HubError, IntegrityError
from hub.facts import (
    AliasFacts,
    Diff,
    Evaluated,
    EvaluationFacts,
    Finding,
    KeyFacts,
    KeyWanted,
    Lineage,
    NewKey,
    Published,
    Removed,
    Resolved,
    SignatureFacts,
    Swept,
    Verification,
    VersionFacts,
)
from hub.manifest import sha256_of_file
from hub.names import parse_adapter_reference, parse_alias, parse_name
from hub.records import AdapterSummary, AliasMove
from hub.who import parse_reason, whoami
from hub.wire import UPLOADED

T = TypeVar("T")
_PAGE = 200
# Each time a file is missing it has been swept away since it was looked for, which takes a while.
_ATTEMPTS = 3


class RemoteHub:
    """Open it with `RemoteHub(url)`; it connects when it is first asked something.

    `key` is an API key, for a hub that wants one.

    Raises:
        UsageError: when `url` is no http address.
    """

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self._hub = Address(url, who=whoami(), key=key)
        self._readers: dict[type[Any], Any] = {}

    def close(self) -> None:
        self._hub.close()

    def __enter__(self) -> "RemoteHub":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- reading ----------------------------------------------------------------------------------

    def adapters(self) -> Iterator[AdapterSummary]:
        return self._pages("adapters", AdapterSummary)

    def versions(self, name: str) -> Iterator[VersionFacts]:
        return self._pages(f"{_adapter(name)}/versions", VersionFacts)

    def show(self, reference: str) -> VersionFacts:
        return self._read(f"{_version(reference)}/version", VersionFacts)

    def resolve(self, reference: str, *, at: str | None = None) -> Resolved:
        return self._read(f"{_version(reference)}/resolve", Resolved, at=at)

    def history(self, name: str, alias: str | None = None) -> Iterator[AliasMove]:
        return self._pages(f"{_adapter(name)}/history", AliasMove, alias=alias)

    def aliases(self, name: str | None = None) -> list[AliasFacts]:
        path = "aliases" if name is None else f"{_adapter(name)}/aliases"
        return list(self._pages(path, AliasFacts))

    def lineage(self, reference: str) -> Lineage:
        return self._read(f"{_version(reference)}/lineage", Lineage)

    def diff(self, a: str, b: str) -> Diff:
        return self._as(Diff, self._hub.ask("GET", "diff", query={"a": a, "b": b}, patient=True))

    def manifest(self, reference: str) -> str:
        return self._hub.text(f"{_version(reference)}/manifest")

    def fetch(self, reference: str, folder: Path) -> VersionFacts:
        from hub.filenames import require_free, require_plain_name
        from hub.store import CARD

        require_free(folder)
        facts = self.show(reference)
        # An alias may move meanwhile; all files are of this one version.
        exact = _version(facts.version)
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
        try:
            scratch.mkdir()
            for file in facts.files:
                target = scratch / require_plain_name(file.path, facts.version)
                self._hub.download(f"{exact}/files/{quoted(file.path)}", target)
                if sha256_of_file(target) != file.sha256:
                    raise IntegrityError(
                        f"{file.path} of {facts.version} arrived damaged",
                        where=self._hub.url,
                        hint="Ask again; if it stays so, `hub doctor` there.",
                    )
            self._hub.download(f"{exact}/card", scratch / CARD)
            scratch.rename(folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return facts

    # -- checking ---------------------------------------------------------------------------------

    def verify(
        self, reference: str | None, *, effect: bool = True, keys: Sequence[str] = ()
    ) -> Iterator[Verification]:
        body = {"effect": effect, "keys": list(keys)}
        if reference is None:
            for found in self._hub.lines("verify", body):
                yield self._as(Verification, found)
            return
        found = self._hub.ask("POST", f"{_version(reference)}/verify", body=body, patient=True)
        yield self._as(Verification, found)

    def doctor(self, *, quick: bool = False) -> list[Finding]:
        found = self._hub.ask("GET", "doctor", query={"quick": quick}, patient=True)
        return self._as(list[Finding], found)

    # -- changing ---------------------------------------------------------------------------------

    def publish(
        self,
        name: str,
        folder: Path,
        *,
        base: str | None = None,
        lineage: dict[str, Any],
        manifest: str | None = None,
        signatures: Sequence[SignatureFacts] = (),
    ) -> Published:
        from hub.adapterfile import FILES, check_files
        from hub.manifest import describe

        path = f"{_adapter(name)}/versions"
        check_files(folder)
        files = [describe(folder / file, file) for file in FILES]
        body = {
            "files": [asdict(file) for file in files],
            "base": base,
            "lineage": lineage,
            "manifest": manifest,
            "signatures": [asdict(signature) for signature in signatures],
        }
        for attempt in range(_ATTEMPTS):
            for file in files:
                if not self._hub.has(f"blobs/{file.sha256}"):
                    self._hub.upload(f"blobs/{file.sha256}", folder / file.path)
            try:
                answer = self._hub.ask("POST", path, body=body, patient=True)
                return self._as(Published, answer)
            except FilesMissing:
                if attempt == _ATTEMPTS - 1:
                    raise
            except HubError as error:
                raise _here(error, folder) from None
        raise AssertionError("the last attempt returns or raises")

    def promote(
        self, reference: str, alias: str, *, expect: int | None, force: bool, why: str
    ) -> AliasMove:
        return self._move("promote", reference, alias, expect=expect, force=force, why=why)

    def set_alias(
        self, reference: str, alias: str, *, expect: int | None, force: bool, why: str
    ) -> AliasMove:
        return self._move("set", reference, alias, expect=expect, force=force, why=why)

    def rollback(self, name: str, *, to: int | None, why: str) -> AliasMove:
        body = {"to": to, "why": parse_reason(why)}
        return self._as(AliasMove, self._hub.ask("POST", f"{_adapter(name)}/rollback", body=body))

    def remove_alias(self, name: str, alias: str, *, why: str) -> AliasMove:
        path = f"{_adapter(name)}/aliases/{parse_alias(alias)}"
        return self._as(AliasMove, self._hub.ask("DELETE", path, query={"why": parse_reason(why)}))

    def protect(self, alias: str, *, protected: bool) -> list[str]:
        method = "PUT" if protected else "DELETE"
        path = f"protected-aliases/{parse_alias(alias)}"
        return self._as(list[str], self._hub.ask(method, path, body={} if protected else None))

    def remove(self, reference: str, *, whole_adapter: bool, why: str) -> Removed:
        asked = parse_name(reference) if whole_adapter else str(parse_adapter_reference(reference))
        query = {"whole_adapter": whole_adapter, "why": parse_reason(why)}
        return self._as(Removed, self._hub.ask("DELETE", f"adapters/{quoted(asked)}", query=query))

    def gc(self, *, keep_days: float, dry_run: bool) -> Swept:
        from hub.sweep import require_days

        require_days(keep_days)
        body = {"keep_days": keep_days, "dry_run": dry_run}
        return self._as(Swept, self._hub.ask("POST", "gc", body=body, patient=True))

    def record_evaluation(self, reference: str, evaluation: Evaluated) -> EvaluationFacts:
        path = f"{_version(reference)}/evaluations"
        return self._as(EvaluationFacts, self._hub.ask("POST", path, body=asdict(evaluation)))

    def sign(self, reference: str, signature: SignatureFacts) -> VersionFacts:
        path = f"{_version(reference)}/signatures"
        return self._as(VersionFacts, self._hub.ask("POST", path, body=asdict(signature)))

    # -- API keys ---------------------------------------------------------------------------------

    def keys(self) -> list[KeyFacts]:
        return self._as(list[KeyFacts], self._hub.ask("GET", "keys"))

    def create_key(self, wanted: KeyWanted) -> NewKey:
        return self._as(NewKey, self._hub.ask("POST", "keys", body=asdict(wanted)))

    def revoke_key(self, name_or_id: str) -> KeyFacts:
        path = f"keys/{quote(name_or_id, safe='')}"
        return self._as(KeyFacts, self._hub.ask("DELETE", path))

    # -- inside -----------------------------------------------------------------------------------

    def _move(
        self, action: str, reference: str, alias: str, *, why: str, **asked: Any
    ) -> AliasMove:
        parsed = parse_adapter_reference(reference)
        to = None if parsed.selector is None else str(parsed.selector)
        path = f"{_adapter(parsed.name)}/aliases/{parse_alias(alias)}"
        body = {"action": action, "to": to, "why": parse_reason(why), **asked}
        return self._as(AliasMove, self._hub.ask("PUT", path, body=body))

    def _read(self, path: str, kind: type[T], **query: Any) -> T:
        return self._as(kind, self._hub.ask("GET", path, query=query))

    def _pages(self, path: str, kind: type[T], **query: Any) -> Iterator[T]:
        asked: dict[str, Any] = {**query, "limit": _PAGE}
        while True:
            found = self._hub.ask("GET", path, query=asked)
            page = found if isinstance(found, Mapping) else {}
            yield from self._as(list[kind], page.get("items"))  # type: ignore[valid-type]
            asked["cursor"] = page.get("next")
            if asked["cursor"] is None:
                return

    def _as(self, kind: type[T], found: Any) -> T:
        """The record in an answer. Raises HubUnreachable when it is another thing."""
        from pydantic import TypeAdapter, ValidationError

        try:
            # Made once for each kind: making one takes longer than sending the request.
            if kind not in self._readers:
                self._readers[kind] = TypeAdapter(kind)
            record: T = self._readers[kind].validate_python(found)
            return record
        except ValidationError as error:
            raise self._hub.no_hub("its answer is not one of a hub") from error


def _adapter(name: str) -> str:
    return f"adapters/{quoted(parse_name(name))}/-"


def _version(reference: str) -> str:
    return f"adapters/{quoted(str(parse_adapter_reference(reference)))}/-"


def _here(error: HubError, folder: Path) -> HubError:
    """What the hub says of the uploaded files, said of the folder that they came from."""
    for part in ("message", "where", "hint"):
        text = getattr(error, part)
        if text is not None:
            setattr(error, part, text.replace(UPLOADED, str(folder)))
    return error
