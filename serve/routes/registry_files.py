"""A version's files out, and files in to be published."""

import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, Response

from hub.errors import NotFound
from hub.facts import Published
from hub.local import LocalHub
from hub.manifest import FileEntry
from hub.names import Digest, Number, parse_adapter_reference, parse_name
from hub.publish import servable_folder
from hub.store import CARD
from serve.answers import ASK_AGAIN, FOR_EVER, OrjsonResponse, has
from serve.hubs import Hubs
from serve.protocol import PublishIn, Sha256, UploadedOut
from serve.routes.asking import Who
from serve.uploads import Uploads

_BINARY = "application/octet-stream"
_WHOLE_DIGEST = 64


def file_routes(hubs: Hubs) -> APIRouter:
    router = APIRouter()

    @router.get(
        "/adapters/{reference:path}/-/files/{path}",
        summary="One file of a version, its ETag the file's sha256; a part of it with Range",
        response_class=FileResponse,
        responses={200: {"content": {_BINARY: {}}}, 206: {"description": "A part"}},
    )
    async def file(request: Request, reference: str, path: str) -> Response:
        found, sha256 = await hubs.read(lambda hub: _file(hub, reference, path))
        lasts = FOR_EVER if path != CARD and _is_exact(reference) else ASK_AGAIN
        headers = {"etag": f'"{sha256}"', "cache-control": lasts}
        if has(request, sha256):
            return Response(status_code=304, headers=headers)
        kind = "text/markdown; charset=utf-8" if path == CARD else _BINARY
        return FileResponse(found, headers=headers, media_type=kind)

    @router.get(
        "/adapters/{reference:path}/-/manifest",
        summary="The canonical manifest: the digest is its sha256, signatures are of it",
        response_class=Response,
        responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
    )
    async def manifest(request: Request, reference: str) -> Response:
        text = (await hubs.read(lambda hub: hub.manifest(reference))).encode()
        tag = hashlib.sha256(text).hexdigest()
        lasts = FOR_EVER if _is_exact(reference) else ASK_AGAIN
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
    router = APIRouter()

    @router.head("/blobs/{sha256}", summary="Whether the hub has a file")
    async def look(sha256: Sha256) -> Response:
        size = await hubs.read(lambda hub: uploads.size(hub.store.blobs, sha256))
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
        return UploadedOut(sha256=sha256, size=await uploads.receive(sha256, request.stream()))

    @router.post(
        "/adapters/{name:path}/-/versions",
        status_code=201,
        summary="Publish files that are here as the next version",
        description="Runs the publish gate, the effect check on the base model included. 200 when"
        " these very bytes are a version already.",
        response_model=Published,
    )
    async def publish(who: Who, name: str, given: PublishIn) -> Response:
        published = await hubs.work(lambda hub: _publish(hub, uploads, name, given), who=who)
        return OrjsonResponse(published, 201 if published.created else 200)

    return router


def _publish(hub: LocalHub, uploads: Uploads, name: str, given: PublishIn) -> Published:
    parse_name(name)
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


def _file(hub: LocalHub, reference: str, path: str) -> tuple[Path, str]:
    """Where a version's file lies here, found to be what was published, and its sha256.

    Raises:
        NotFound: when the version has no such file.
        IntegrityError: when its bytes are damaged: nothing damaged is ever given out.
    """
    version = hub.registry.resolve(parse_adapter_reference(reference))
    known = {entry.path: entry.sha256 for entry in version.manifest.files}
    if path != CARD and path not in known:
        raise NotFound(
            f"{version} has no file {path[:80]!a}", hint=f"It has: {', '.join([*known, CARD])}."
        )
    found = servable_folder(hub.store, version) / path
    return found, known.get(path) or hashlib.sha256(found.read_bytes()).hexdigest()


def _is_exact(reference: str) -> bool:
    """Whether a reference means the same version for ever: by number, or by its whole digest."""
    selector = parse_adapter_reference(reference).selector
    if isinstance(selector, Digest):
        return len(selector.value) == _WHOLE_DIGEST
    return isinstance(selector, Number)
