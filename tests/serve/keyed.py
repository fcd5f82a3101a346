"""What tests of API keys share: making keys beside a gateway that runs, and asking with them."""

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from hub.facts import KeyWanted, NewKey
from hub.home import Home
from hub.registry import Registry
from tests.serve.conftest import Gateway


class Keys:
    """`keys("app", "infer", "acme")` makes a key in another connection than the gateway's."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.made: list[NewKey] = []

    def __call__(
        self, name: str, scopes: str = "infer", namespaces: str | None = None, **more: Any
    ) -> dict[str, str]:
        """The headers of its requests."""
        within = None if namespaces is None else tuple(namespaces.split())
        with Registry.open(self.home) as registry:
            made = registry.keys.create(KeyWanted(name, tuple(scopes.split()), within, **more))
        self.made.append(made)
        return {"authorization": f"Bearer {made.secret}"}

    def revoke(self, name: str) -> None:
        with Registry.open(self.home) as registry:
            registry.keys.revoke(name)


@pytest.fixture
def keys(home: Home, registry: Registry) -> Keys:
    return Keys(home)


def inner(app: Any) -> FastAPI:
    """The FastAPI app behind all that stands before it."""
    while not isinstance(app, FastAPI):
        app = app._app
    return app


async def send(
    gateway: Gateway, method: str, path: str, headers: dict[str, str], body: Any = None
) -> httpx.Response:
    if method in ("GET", "HEAD"):
        return await gateway.http.request(method, path, headers=headers)
    if path.startswith("/hub/blobs/"):
        octets = {"content-type": "application/octet-stream", **headers}
        return await gateway.http.request(method, path, headers=octets, content=b"x")
    return await gateway.http.request(method, path, headers=headers, json=body or {})
