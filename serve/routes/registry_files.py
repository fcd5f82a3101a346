"""A version's files out, and files in to be published."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from hub.card import render_card
from hub.errors import NotFound, UsageError
from hub.facts import Published
from hub.keys import PublicKey
from hub.local import LocalHub
from hub.manifest import FileEntry
from hub.names import AdapterRef, Digest, Number, parse_adapter_reference, parse_name
from hub.publish import servable_folder
from hub.store import CARD
from hub.strictjson import require_plain
from serve.caller import caller, needs
from serve.doors.doors import ASKED_HEAD
from serve.failures import refusal
from serve.hubs import Hubs
from serve.protocol import PublishIn, Sha256, UploadedOut
from serve.requests.answers import ASK_AGAIN, OrjsonResponse, for_ever, has
from serve.routes.asking import Who
from serve.signed import SignedOnly
from serve.uploads import Uploads

_BINARY = "application/octet-stream"
_WHOLE_DIGEST = 64
_RANGE = re.compile(r"([0-9]{0,18})-([0-9]{0,18})")


def file_routes(hubs: Hubs, signed_by: Sequence[PublicKey] = ()) -> APIRouter:
    """With `signed_by`, files only of versions that one of these keys has signed; the manifest
    stays open, because it is what is signed."""
    router = APIRouter(dependencies=[needs("infer")])

    @router.get(
        "/adapters/{reference:path}/-/files/{path}",
        summary="One file of a version, its ETag the file's sha256; a part of it with Range",
        response_class=FileResponse,
        responses={200: {"content": {_BINARY: {}}}, 206: {"description": "A part"}},
    )
    async def file(request: Request, reference: str, path: str) -> Response:
        if path == CARD and caller.get().namespaces is not None:
            return await _told_card(request, hubs, reference, signed_by)
        found, sha256 = await hubs.read(lambda hub: _file(hub, reference, path, signed_by))
        lasts = for_ever() if path != CARD and _is_exact(reference) else ASK_AGAIN
        headers = {"etag": f'"{sha256}"', "cache-control": lasts}
        if has(request, sha256):
            return Response(status_code=304, headers=headers)
        kind = "text/markdown; charset=utf-8" if path == CARD else _BINARY
        answer = FileResponse(found, headers=headers, media_type=kind, stat_result=found.stat())
        return _part(request, answer)

    @router.get(
        "/adapters/{reference:path}/-/manifest",
        summary="The canonical manifest: the digest is its sha256, signatures are of it",
        response_class=Response,
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def manifest(request: Request, reference: str) -> Response:
        text = (await hubs.read(lambda hub: hub.manifest(reference))).encode()
        tag = hashlib.sha256(text).hexdigest()
        lasts = for_ever() if _is_exact(reference) else ASK_AGAIN
        headers = {"etag": f'"{tag}"', "cache-control": lasts}
        if has(request, tag):
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="application/json", headers=headers)

    @router.get(
        "/adapters/{reference:path}/-/card",
        summary="README.md, in the Hugging Face card format",
        response_class=FileResponse,
        responses={200: {"content": {"text/markdown": {}}}},
    )
    async def card(request: Request, reference: str) -> Response:
        return await file(request, reference, CARD)

    return router


def publishing_routes(hubs: Hubs, uploads: Uploads) -> APIRouter:
    router = APIRouter(dependencies=[needs("admin")])

    @router.head("/blobs/{sha256}", summary="Whether the hub has a file")
    async def look(sha256: Sha256) -> Response:
        mine = uploads.of(caller.get())
        size = await hubs.read(lambda hub: mine.size(hub, sha256))
        if size is None:
            return Response(status_code=404)
        return Response(headers={"content-length": str(size), "etag": f'"{sha256}"'})

    @router.put(
        "/blobs/{sha256}",
        status_code=201,
        summary="Send a file that a publish will name; it is compared with its hash",
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {_BINARY: {"schema": {"type": "string", "format": "binary"}}},
            }
        },
    )
    async def upload(request: Request, sha256: Sha256) -> UploadedOut:
        mine = uploads.of(caller.get())
        return UploadedOut(sha256=sha256, size=await mine.receive(sha256, request.stream()))

    @router.post(
        "/adapters/{name:path}/-/versions",
        status_code=201,
        summary="Publish files that are here as the next version",
        description="Runs the publish gate, the effect check on the base model included. 200 when"
        " these very bytes are a version already.",
        response_model=Published,
    )
    async def publish(who: Who, name: str, given: PublishIn) -> Response:
        mine = uploads.of(caller.get())
        published = await hubs.work(lambda hub: _publish(hub, mine, name, given), who=who)
        return OrjsonResponse(published, 201 if published.created else 200)

    return router


def _publish(hub: LocalHub, uploads: Uploads, name: str, given: PublishIn) -> Published:
    unknown = hub.registry.versions.unknown(AdapterRef(parse_name(name)))
    # Before it is looked for files: nothing is said of a name outside.
    hub.registry.fence.require(name, unknown)
    try:
        require_plain(given.lineage)
    except ValueError as error:
        raise UsageError(f"the lineage holds {error}") from error
    files = [FileEntry(file.path, file.sha256, file.size) for file in given.files]
    with uploads.folder(hub, files) as folder:
        return hub.publish(
            name,
            folder,
            base=given.base,
            lineage=given.lineage,
            manifest=given.manifest,
            signatures=given.signatures,
        )


def _part(request: Request, answer: FileResponse) -> Response:
    """`answer`, which itself sees to ranges, but for those that it refuses in its own words.

    A range that is malformed or in another unit is as if it were not there (RFC 9110, 14.2).
    """
    if request.scope.get(ASKED_HEAD):
        return Response(headers=dict(answer.headers))
    asked = request.headers.get("range")
    condition = request.headers.get("if-range")
    if asked is None or (condition is not None and condition != answer.headers["etag"]):
        return answer
    size = int(answer.headers["content-length"])
    starts = []
    for part in asked.removeprefix("bytes=").split(","):
        found = _RANGE.fullmatch(part.strip()) if asked.startswith("bytes=") else None
        first, last = found.groups() if found else ("", "")
        if not (first or last) or (first and last and int(first) > int(last)):
            # Not there: the answer looks for it in the scope once more.
            kept = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
            request.scope["headers"] = kept
            return answer
        starts.append(int(first) if first else size - min(size, int(last)))
    if all(start < size for start in starts):
        return answer
    refused = refusal(416, "range_not_satisfiable", f"the file has {size} bytes")
    refused.headers["content-range"] = f"bytes */{size}"
    return refused


def _file(
    hub: LocalHub, reference: str, path: str, signed_by: Sequence[PublicKey]
) -> tuple[Path, str]:
    """Where a version's file lies here, found to be what was published, and its sha256.

    Raises:
        NotFound: when the version has no such file.
        IntegrityError: when its bytes are damaged: nothing damaged is ever given out.
        NotSigned: when none of the wanted keys has signed it.
    """
    version = hub.registry.resolve(parse_adapter_reference(reference))
    SignedOnly(hub.registry, signed_by).require(version)
    known = {entry.path: entry.sha256 for entry in version.manifest.files}
    if path != CARD and path not in known:
        raise NotFound(
            f"{version} has no file {path[:80]!a}", hint=f"It has: {', '.join([*known, CARD])}."
        )
    found = servable_folder(hub.store, version) / path
    return found, known.get(path) or hashlib.sha256(found.read_bytes()).hexdigest()


async def _told_card(
    request: Request, hubs: Hubs, reference: str, signed_by: Sequence[PublicKey]
) -> Response:
    """The card for a caller who may not know of all that the file in the folder names."""

    def render(hub: LocalHub) -> bytes:
        version = hub.registry.resolve(parse_adapter_reference(reference))
        SignedOnly(hub.registry, signed_by).require(version)
        return render_card(hub.registry.fence.kept(version)).encode()

    text = await hubs.read(render)
    tag = hashlib.sha256(text).hexdigest()
    headers = {"etag": f'"{tag}"', "cache-control": ASK_AGAIN}
    if has(request, tag):
        return Response(status_code=304, headers=headers)
    return Response(text, media_type="text/markdown; charset=utf-8", headers=headers)


def _is_exact(reference: str) -> bool:
    """Whether a reference means the same version for ever: by number, or by its whole digest."""
    selector = parse_adapter_reference(reference).selector
    if isinstance(selector, Digest):
        return len(selector.value) == _WHOLE_DIGEST
    return isinstance(selector, Number)
