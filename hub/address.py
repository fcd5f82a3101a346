"""Asking a hub at an address: HTTP out, JSON in, and errors that are those of the hub itself.

What is not an answer of a hub is HubUnreachable, in one of three kinds of words: nobody answers,
something else answers, or the connection broke (and nobody here knows whether it was done).
Nothing is retried: whether to ask again is for whoever knows what was asked.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit, urlunsplit

from hub.errors import HubUnreachable, UsageError
from hub.httpclient import httpx
from hub.wire import WHO_HEADER, error_from

_CONNECT_S = 10.0
_ANSWER_S = 60.0
_PIECE = 1 << 18
# Bytes that are no text, text that is no JSON, and JSON nested without end.
_NO_JSON = (ValueError, RecursionError)
# The hub may have to read its files first, or to run a model.
_PATIENT = httpx.Timeout(None, connect=_CONNECT_S)


class Address:
    """A hub's address, with the connection to it; close it.

    `who` is whom the hub's histories name; one that wants API keys names the `key`'s owner instead.
    Paths are below `/hub/`.

    Raises:
        UsageError: when `url` is no http address.
    """

    def __init__(self, url: str, *, who: str, key: str | None = None) -> None:
        parts = _parse(url)
        # As it is shown: a password for a proxy in front of the hub stays out of messages.
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._http = httpx.Client(
            base_url=f"{urlunsplit(parts)}/hub/",
            headers={
                WHO_HEADER: quote(who),
                "user-agent": "lora-loom",
                **({"authorization": f"Bearer {key}"} if key else {}),
            },
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            # Reading the certificates takes longer than all the rest of a request.
            verify=self.url.startswith("https:"),
        )

    def close(self) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        patient: bool = False,
    ) -> Any:
        """The JSON of an answer. `patient` waits as long as it takes: the hub runs a model.

        Raises:
            HubError: whatever the hub raised there.
            HubUnreachable: when this is not an answer of a hub.
        """
        with self._answer(method, path, query=query, body=body, patient=patient) as response:
            response.read()
            return self._json(response)

    def text(self, path: str) -> str:
        """The text of an answer; raises as `ask`."""
        with self._answer("GET", path) as response:
            try:
                return response.read().decode()
            except UnicodeDecodeError as error:
                raise self._stranger(response) from error

    def has(self, path: str) -> bool:
        """Whether a HEAD finds something. Raises HubUnreachable."""
        with self._reaching():
            return self._http.head(path).status_code == httpx.codes.OK

    def lines(self, path: str, body: Any) -> Iterator[Any]:
        """The JSON of each line of an answer, as they come; raises as `ask`, also in the middle."""
        with self._answer("POST", path, body=body, patient=True) as response:
            for line in response.iter_lines():
                try:
                    found = json.loads(line)
                except _NO_JSON as cause:
                    raise self.no_hub("its answer is not one of a hub") from cause
                if error := error_from(found):
                    raise error
                yield found

    def download(self, path: str, target: Path) -> None:
        """Write an answer's bytes to a file that is not there yet; raises as `ask`."""
        with self._answer("GET", path, patient=True) as response, target.open("xb") as file:
            for piece in response.iter_bytes(_PIECE):
                file.write(piece)

    def upload(self, path: str, source: Path) -> None:
        """Send a file as it is; raises as `ask`."""
        headers = {
            "content-type": "application/octet-stream",
            "content-length": str(source.stat().st_size),
        }
        with source.open("rb") as file, self._reaching():
            pieces = iter(lambda: file.read(_PIECE), b"")
            response = self._http.put(path, content=pieces, headers=headers, timeout=_PATIENT)
        self._refuse(response)

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        patient: bool = False,
    ) -> Iterator[httpx.Response]:
        """An answer whose head has arrived and says that all is well."""
        asked = {key: value for key, value in (query or {}).items() if value is not None}
        timeout = _PATIENT if patient else httpx.USE_CLIENT_DEFAULT
        request = self._http.build_request(method, path, params=asked, json=body, timeout=timeout)
        with self._reaching():
            response = self._http.send(request, stream=True)
            try:
                if not response.is_success:
                    response.read()
                    self._refuse(response)
                yield response
            finally:
                response.close()

    def _refuse(self, response: httpx.Response) -> None:
        """Raise what a refusal says."""
        if response.is_success:
            return
        try:
            error = error_from(response.json())
        except _NO_JSON:
            error = None
        raise error or self._stranger(response)

    def _json(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except _NO_JSON as error:
            raise self._stranger(response) from error

    def _stranger(self, response: httpx.Response) -> HubUnreachable:
        """For an answer that no hub of this version would give, but for its doors."""
        try:
            said = str(response.json()["error"]["message"])
        except (*_NO_JSON, KeyError, TypeError):
            return self.no_hub(f"HTTP {response.status_code} for {response.request.url.path}")
        return HubUnreachable(
            f"the server at {self.url} refuses ({said})",
            hint="Is it a `hub serve` of this version or newer, and nothing in between?",
        )

    def no_hub(self, why: str) -> HubUnreachable:
        """The error for whatever answers there and is no hub."""
        return HubUnreachable(
            f"what answers at {self.url} is no hub ({why})",
            hint="Give the address that `hub serve` prints.",
        )

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise HubUnreachable(
                f"no hub answers at {self.url} ({error})",
                hint="Start one there with `hub serve` (or `hub serve --registry-only`), or name"
                " another with --hub URL.",
            ) from error
        except httpx.HTTPError as error:
            raise HubUnreachable(
                f"the connection to {self.url} broke before the answer was there"
                f" ({error or type(error).__name__})",
                hint="What was asked for may be done or not: look with `hub show` or `hub history`"
                " before asking again. Publishing the same bytes again is safe.",
            ) from error


def quoted(name: str) -> str:
    """A name or reference as a part of a path."""
    return quote(name, safe="/@:+*")


def _parse(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        # What no name on a network can be is found here rather than by the first request.
        (parts.hostname or "").encode("idna")
        httpx.URL(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except (ValueError, httpx.InvalidURL) as error:
        raise _no_address(url) from error
    if not known or parts.query or parts.fragment or not url.isprintable():
        raise _no_address(url)
    # What `openai` clients are given works here as well.
    return parts._replace(path=parts.path.rstrip("/").removesuffix("/v1"))


def _no_address(url: str) -> UsageError:
    shown = url if url.isprintable() and len(url) <= 200 else ascii(url[:200])[1:-1]
    return UsageError(f"'{shown}' is no hub's address", hint="Write it like http://HOST:PORT.")
