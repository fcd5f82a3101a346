"""The one place where errors become HTTP answers: OpenAI's shape, for every path and every cause.

A HubError carries its own status and words. Whatever nobody foresaw is a 500 that says nothing of
its cause to the client; the traceback goes to the log.
"""

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from hub.apikeys import ADMIN
from hub.errors import (
    BodyTooLarge,
    EngineUnavailable,
    HubError,
    IntegrityError,
    InvalidApiKey,
    Overloaded,
)
from serve.caller import caller
from serve.requests.answers import OrjsonResponse

_log = logging.getLogger(__name__)
_RETRY_AFTER_S = "2"
_UNFORESEEN = "the gateway failed; its log says why"


def install(app: FastAPI) -> None:
    app.add_exception_handler(HubError, _hub_error)
    app.add_exception_handler(RequestValidationError, _invalid_body)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)


def answer_to(method: str, path: str, error: Exception) -> Response:
    """An error as an answer, for what is called without FastAPI around it.

    What is no HubError must be raised again after this answer, so that the log has its traceback.
    """
    if isinstance(error, HubError):
        return _known(method, path, error)
    return OrjsonResponse(_body(_UNFORESEEN, "server_error", "internal_error"), 500)


def refusal(status: int, code: str, message: str, *, param: str | None = None) -> Response:
    """A refusal that needs no exception: the request never got as far as a route."""
    return OrjsonResponse(_body(message, "invalid_request_error", code, param), status)


def _hub_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HubError)
    return _known(request.method, request.url.path, error)


def _known(method: str, path: str, error: HubError) -> Response:
    if error.status >= 500:
        _log.error("%s %s: %s", method, path, error)
    headers = {}
    if isinstance(error, EngineUnavailable):
        headers["retry-after"] = _RETRY_AFTER_S
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(error.retry_after_s)
    if isinstance(error, InvalidApiKey):
        headers["www-authenticate"] = 'Bearer realm="hub"'
    if isinstance(error, BodyTooLarge):
        # The rest of the body is not read, so the connection can't serve another request.
        headers["connection"] = "close"
    return OrjsonResponse(_shown(error).to_openai(), error.status, headers=headers)


def _shown(error: HubError) -> HubError:
    """Where damaged files lie and how to mend them is for who looks after the hub."""
    if type(error) is not IntegrityError or ADMIN in caller.get().scopes:
        return error
    return IntegrityError("its stored files are damaged", hint="Whoever runs the hub can mend it.")


def _invalid_body(request: Request, error: Exception) -> Response:
    """Every problem with a body of ours, by field; `param` is the first."""
    assert isinstance(error, RequestValidationError)
    problems = []
    fields = []
    for problem in error.errors():
        field = ".".join(str(part) for part in problem["loc"] if part != "body")
        fields.append(field.removeprefix("query."))
        problems.append(f"{field}: {problem['msg']}" if field else str(problem["msg"]))
    # What is no JSON has a place in it for a field.
    param = None if fields[0].isdecimal() else fields[0] or None
    return refusal(400, "invalid_request", "; ".join(problems), param=param)


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = f"{request.method} {request.url.path}: {error.detail}"
    answer = refusal(error.status_code, code, message)
    answer.headers.update(error.headers or {})
    return answer


def _unforeseen(request: Request, error: Exception) -> Response:
    # Starlette raises it again after this answer, and uvicorn logs it with its traceback.
    return answer_to(request.method, request.url.path, error)


def _body(
    message: str, kind: str, code: str, param: str | None = None
) -> dict[str, dict[str, str | None]]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
