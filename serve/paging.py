"""Pages of long lists: `?limit=` and an opaque cursor, stable while things are added.

A cursor is the key of the last item that was given (a name, a number, a row), never an offset: what
is published between two pages moves nothing. What it holds is nobody's business but this module's.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Query, Request

from hub.errors import UsageError

T = TypeVar("T")
DEFAULT_LIMIT = 100
MAX_LIMIT = 1000


@dataclass(frozen=True)
class Page(Generic[T]):
    """`next` is the cursor of the page after this one, None on the last."""

    items: Sequence[T]
    next: str | None


class Asked:
    """Which page a request asks for."""

    def __init__(
        self,
        request: Request,
        limit: Annotated[
            int, Query(ge=1, le=MAX_LIMIT, description="How many items at most.")
        ] = DEFAULT_LIMIT,
        cursor: Annotated[
            str | None, Query(description="`next` of the page before; none for the first.")
        ] = None,
    ) -> None:
        self.limit = limit
        self._cursor = cursor
        self._request = request

    def text(self) -> str:
        """The key to go on after; '' at the start. Raises UsageError for a foreign cursor."""
        key = self._key("")
        if not isinstance(key, str):
            raise _foreign()
        return key

    def number(self) -> int | None:
        """The key to go on below; None at the start. Raises UsageError for a foreign cursor."""
        key = self._key(None)
        # SQLite's integers end there.
        if key is not None and not (type(key) is int and abs(key) < 1 << 63):
            raise _foreign()
        return key

    def page(self, found: Sequence[T], key: Callable[[T], object]) -> Page[T]:
        """A page of what was asked for with one more than `limit`, which tells if there is more."""
        if len(found) <= self.limit:
            return Page(found, None)
        items = found[: self.limit]
        cursor = base64.urlsafe_b64encode(orjson.dumps(key(items[-1]))).decode().rstrip("=")
        return Page(items, cursor)

    def headers(self, page: Page[T]) -> dict[str, str]:
        """`Link`, where there is a next page."""
        if page.next is None:
            return {}
        asked = urlencode({**dict(self._request.query_params), "cursor": page.next})
        return {"link": f'<{self._request.url.path}?{asked}>; rel="next"'}

    def _key(self, start: object) -> object:
        if self._cursor is None:
            return start
        try:
            return orjson.loads(base64.urlsafe_b64decode(self._cursor + "=="))
        except (binascii.Error, ValueError) as error:
            raise _foreign() from error


AskedPage = Annotated[Asked, Depends(Asked)]


def _foreign() -> UsageError:
    return UsageError(
        "the cursor is not one of this list", hint="Pass `next` of the page before as it is."
    )
