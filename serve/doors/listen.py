"""The gateway's listening socket, bound before anything expensive starts, and its HTTP server."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from hub.errors import AddressRefused
from serve.settings import check_address

_BACKLOG = 512
_CLOSE_S = 3
_LAST_PORT = 65535


def listen(host: str, port: int, *, keyed: bool = False) -> socket.socket:
    """A bound, listening socket; port 0 takes any free one. `keyed` as in `check_address`.

    Raises:
        AddressRefused: when the port is taken, not to be had or none at all, or as `check_address`.
    """
    check_address(host, keyed=keyed)
    if not 0 <= port <= _LAST_PORT:
        raise AddressRefused(
            f"there is no port {port}",
            hint=f"Choose one up to {_LAST_PORT} with --port, or --port 0 for any free one.",
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, because asyncio sends small writes at once (TCP_NODELAY) only where it reads TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    # A restart must not wait for the old connections' TIME_WAIT.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(host, port, error) from error
    listener.setblocking(False)
    return listener


def address(listener: socket.socket) -> str:
    """`http://127.0.0.1:8000`"""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Signals are `run_gateway`'s: uvicorn would stop before the requests inside are done."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def make_server(app: ASGIApp) -> uvicorn.Server:
    """An HTTP server for the app; give it a listening socket, and set `should_exit` to end it."""
    return _Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            # Nothing here asks for a client's address, and headers that claim one are not believed.
            proxy_headers=False,
            # Longer than clients keep a connection, so that they never reuse one as it closes.
            timeout_keep_alive=75,
            timeout_graceful_shutdown=_CLOSE_S,
        )
    )


def _refused(host: str, port: int, error: OSError) -> AddressRefused:
    other = "Choose another with --port, or --port 0 for any free one"
    if error.errno == errno.EADDRINUSE:
        return AddressRefused(
            f"port {port} on {host} is in use",
            hint=f"{other}; or stop what listens there (a `hub serve` that runs already?).",
        )
    return AddressRefused(
        f"the gateway can't listen on {host}, port {port} ({error.strerror})", hint=f"{other}."
    )
