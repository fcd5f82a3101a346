"""The registry over HTTP: `hub.operations`, one route an operation, below `/hub`.

A name may hold a slash (`acme/support`), so what belongs to an adapter comes after `/-/`, which no
name can hold. `{reference}` is any reference to one version; a name alone means its production.
Answers are the records of `hub.facts`; errors are OpenAI's object with `detail`, from which
`hub.remote` raises the same error again.
"""

from collections.abc import Sequence

from fastapi import APIRouter

from hub.keys import PublicKey
from hub.records import Base
from serve.hubs import Hubs
from serve.protocol import ErrorOut
from serve.routes.registry_adapters import adapter_routes, listing_routes, reference_routes
from serve.routes.registry_aliases import alias_routes, history_routes, protection_routes
from serve.routes.registry_checks import check_routes, evaluation_routes, origin_routes
from serve.routes.registry_files import file_routes, publishing_routes
from serve.routes.registry_keys import key_routes
from serve.uploads import Uploads


def registry_routes(
    hubs: Hubs, uploads: Uploads, served: Base | None, signed_by: Sequence[PublicKey] = ()
) -> APIRouter:
    """`served` is the base that this server's engine runs, None without an engine. With
    `signed_by`, files are given out only of versions that one of these keys has signed."""
    router = APIRouter(
        prefix="/hub",
        tags=["registry"],
        responses={"4XX": {"model": ErrorOut, "description": "What was wrong, and what to do"}},
    )
    for part in (
        listing_routes(hubs, served),
        reference_routes(hubs),
        alias_routes(hubs),
        history_routes(hubs),
        protection_routes(hubs),
        file_routes(hubs, signed_by),
        publishing_routes(hubs, uploads),
        origin_routes(hubs),
        evaluation_routes(hubs),
        check_routes(hubs),
        key_routes(hubs),
        # Last: its paths take whatever no other wants.
        adapter_routes(hubs),
    ):
        router.include_router(part)
    return router
