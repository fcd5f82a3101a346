"""`/v1/files`: OpenAI's files, for what is trained on and what was measured.

All of it wants `admin`: who may read what is trained on, is not who may ask a model. A key that is
limited to namespaces has files of its own.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, BinaryIO, Literal

import orjson
from fastapi import APIRouter, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import FileResponse, Response

from hub.clock import stamp
from hub.errors import InvalidParameter, StoreUnavailable
from hub.files import StoredFile
from hub.local import LocalHub
from serve.caller import caller, needs
from serve.fine_tuning_objects import file_out, page
from serve.hubs import Hubs
from serve.requests.answers import OrjsonResponse

_MOST_LISTED = 10_000
_LONGEST_NAME = 255
_FIRST_LINE = 1 << 20
_BOM = b"\xef\xbb\xbf"
_LIFE_S = (3600, 2_592_000)
_MULTIPART = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "purpose": {"const": "fine-tune"},
                        "expires_after[anchor]": {"const": "created_at"},
                        "expires_after[seconds]": {"type": "integer"},
                    },
                }
            }
        },
    }
}


def file_routes(hubs: Hubs) -> APIRouter:
    router = APIRouter(prefix="/v1/files", tags=["fine-tuning"], dependencies=[needs("admin")])

    @router.post("", summary="Upload rows to train on: JSONL", openapi_extra=_MULTIPART)
    async def upload(request: Request) -> Response:
        try:
            async with request.form(max_files=1, max_fields=8) as form:
                kept = await _keep(hubs, dict(form))
        except OSError as error:  # of the temporary file that the form is read into
            raise StoreUnavailable(
                f"the server's disk does not take the file ({error.strerror or error})",
                hint="Make room on its machine, and send it again.",
            ) from error
        return OrjsonResponse(file_out(kept))

    @router.get("", summary="Files, newest first")
    async def files(
        after: str | None = None,
        limit: Annotated[int, Query(ge=1, le=_MOST_LISTED)] = _MOST_LISTED,
        order: Literal["asc", "desc"] = "desc",
        purpose: str | None = None,
    ) -> Response:
        def find(hub: LocalHub) -> list[StoredFile]:
            return hub.registry.files.all(
                after=after, limit=limit + 1, newest_first=order == "desc", purpose=purpose
            )

        return OrjsonResponse(page(await hubs.read(find), limit, file_out))

    @router.get("/{file_id}")
    async def file(file_id: str) -> Response:
        return OrjsonResponse(
            file_out(await hubs.read(lambda hub: hub.registry.files.get(file_id)))
        )

    @router.get("/{file_id}/content")
    async def content(file_id: str) -> Response:
        def find(hub: LocalHub) -> tuple[StoredFile, Any]:
            found = hub.registry.files.get(file_id)
            return found, hub.registry.files.path(found)

        found, path = await hubs.read(find)
        return FileResponse(path, media_type="application/octet-stream", filename=found.filename)

    @router.delete("/{file_id}")
    async def delete(file_id: str) -> Response:
        await hubs.read(lambda hub: hub.registry.files.delete(file_id))
        return OrjsonResponse({"id": file_id, "object": "file", "deleted": True})

    return router


async def _keep(hubs: Hubs, form: dict[str, Any]) -> StoredFile:
    """Raises InvalidParameter, naming the part of the form."""
    for name in form:
        if name not in ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]"):
            raise InvalidParameter(f"there is no part {name[:80]!a} of an upload", param=name[:80])
    sent = form.get("file")
    if not isinstance(sent, UploadFile):
        raise InvalidParameter("the form has no file", param="file")
    purpose = form.get("purpose")
    if purpose != "fine-tune":
        raise InvalidParameter(
            f"the purpose is {str(purpose)[:80]!a}: this hub takes files to train on",
            param="purpose",
            hint="Send purpose='fine-tune'.",
        )
    expires_at = _expiry(form)
    filename = _filename(sent.filename)
    await asyncio.to_thread(_require_rows, sent.file)
    namespaces = caller.get().namespaces
    return await hubs.work(
        lambda hub: hub.registry.files.add(
            sent.file, filename, namespaces=namespaces, expires_at=expires_at
        )
    )


def _filename(given: str | None) -> str:
    name = (given or "").replace("\\", "/").rpartition("/")[2]
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidParameter(
            f"the file's name is {name[:80]!a}", param="file", hint="Name it like train.jsonl."
        )
    return name


def _require_rows(stream: BinaryIO) -> None:
    """That it begins as JSONL does: the rest is read, with the lint, when a job wants it."""
    start = stream.read(_FIRST_LINE).removeprefix(_BOM).lstrip()
    stream.seek(0)
    line, newline, _ = start.partition(b"\n")
    try:
        whole = newline or len(line) < _FIRST_LINE // 2
        row = orjson.loads(line) if whole else {}
    except orjson.JSONDecodeError:
        row = None
    if not line.startswith(b"{") or not isinstance(row, dict):
        what = "the file is empty" if not line else "its first line is not a JSON object"
        raise InvalidParameter(
            f"this is not JSONL: {what}",
            param="file",
            hint="Send one JSON object a line; `hub data convert` makes that of other formats.",
        )


def _expiry(form: dict[str, Any]) -> str | None:
    anchor, seconds = form.get("expires_after[anchor]"), form.get("expires_after[seconds]")
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        raise InvalidParameter(
            "a file expires after its creation only",
            param="expires_after[anchor]",
            hint="Send 'created_at'.",
        )
    if not str(seconds).isdecimal() or not _LIFE_S[0] <= int(str(seconds)) <= _LIFE_S[1]:
        raise InvalidParameter(
            f"a file's life is {_LIFE_S[0]} to {_LIFE_S[1]} seconds",
            param="expires_after[seconds]",
        )
    return stamp(datetime.now(UTC) + timedelta(seconds=int(str(seconds))))
