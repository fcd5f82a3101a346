"""Asking arms the same questions through a server, row by row, side by side."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from hub.errors import EngineError, EngineUnavailable


@dataclass(frozen=True)
class Question:
    """A prompt in OpenAI's `messages`, and the answer that is right."""

    messages: list[dict[str, Any]]
    expected: str


@dataclass(frozen=True)
class Answer:
    """What an arm said; `version` is the exact one that answered and `digest` is its (sha256:…, ''
    where the server does not say), `seconds` until all was there."""

    text: str
    version: str
    digest: str
    seconds: float
    completion_tokens: int


def ask(
    server: str,
    arms: Sequence[str],
    questions: Sequence[Question],
    *,
    max_tokens: int,
    concurrency: int,
    progress: Callable[[], None],
    key: str | None = None,
) -> list[list[Answer]]:
    """Every question to every arm, greedily; the result is `[arm][question]`.

    `key` is an API key, for a server that wants one. Arms are interleaved question by question, so
    that a machine that slows down slows both.

    Raises:
        EngineUnavailable: when no server answers there.
        EngineError: when the server refuses a question.
    """
    with (
        httpx.Client(
            base_url=server,
            timeout=300,
            headers={"authorization": f"Bearer {key}"} if key else {},
        ) as client,
        ThreadPoolExecutor(concurrency) as pool,
    ):

        def one(job: tuple[str, Question]) -> Answer:
            answer = _ask(client, *job, max_tokens=max_tokens)
            progress()
            return answer

        jobs = [(arm, question) for question in questions for arm in arms]
        try:
            answers = list(pool.map(one, jobs))
        except BaseException:  # one failure or Ctrl-C: don't ask what is still queued
            pool.shutdown(cancel_futures=True)
            raise
    return [answers[index :: len(arms)] for index in range(len(arms))]


def _ask(client: httpx.Client, arm: str, question: Question, *, max_tokens: int) -> Answer:
    body = {
        "model": arm,
        "messages": question.messages,
        "max_tokens": max_tokens,
        "temperature": 0,
        "user": "hub-eval",
    }
    started = time.perf_counter()
    try:
        response = client.post("/v1/chat/completions", json=body)
    except httpx.TransportError as error:
        raise EngineUnavailable(
            f"no answer from the server at {client.base_url} ({error})",
            hint="Start it with `hub serve`, or name another with --server URL.",
        ) from error
    if response.status_code != 200:
        raise EngineError(f"'{arm}' could not be asked: {error_message(response)}")
    said = response.json()
    return Answer(
        text=said["choices"][0]["message"]["content"] or "",
        version=said["model"],
        digest=response.headers.get("x-hub-digest", ""),
        seconds=time.perf_counter() - started,
        completion_tokens=said["usage"]["completion_tokens"],
    )


def error_message(response: httpx.Response) -> str:
    """The message of an answer in OpenAI's error shape, or its status."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {response.status_code}"
