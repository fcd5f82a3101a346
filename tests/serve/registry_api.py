"""The registry's HTTP API on a real socket, in a thread: the app of `hub serve --registry-only`."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hub.home import Home
from hub.publish import MeasureEffect
from hub.registry import Registry
from serve.doors.listen import address, listen, make_server
from serve.hubs import Hubs
from serve.registry_server import make_registry_app
from serve.settings import RegistrySettings
from serve.uploads import Uploads
from tests.conftest import acts


@contextmanager
def serving(
    home: Home, measure_effect: MeasureEffect = acts, settings: RegistrySettings | None = None
) -> Iterator[str]:
    """Its address."""
    hubs = Hubs.of(home, measure_effect)
    settings = settings or RegistrySettings()
    with listen("127.0.0.1", 0) as listener, Registry.open(home, any_thread=True) as registry:
        server = make_server(make_registry_app(registry, hubs, Uploads(home), settings))
        thread = threading.Thread(target=asyncio.run, args=[server.serve([listener])])
        thread.start()
        try:
            yield address(listener)
        finally:
            server.should_exit = True
            thread.join()
            hubs.close()
