"""The console's files at /console/, under a policy that lets them load nothing from elsewhere."""

from pathlib import Path

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles
from starlette.types import Message, Receive, Scope, Send

from serve.caller import needs

CONSOLE = Path(__file__).resolve().parent / "console"
_HEADERS = {
    b"content-security-policy": b"default-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'; object-src 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    # The files change with the installed version: browsers must ask (etags make it cheap).
    b"cache-control": b"no-cache",
}


class ConsoleFiles(StaticFiles):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS.items()]
            await send(message)

        await super().__call__(scope, receive, send_guarded)


def mount_console(app: FastAPI) -> None:
    async def to_console() -> RedirectResponse:
        return RedirectResponse("/console/")

    for path in ("/", "/console"):
        app.add_api_route(path, to_console, include_in_schema=False, dependencies=[needs(None)])
    app.mount("/console", ConsoleFiles(directory=CONSOLE, html=True), name="console")
