"""Streamed chats, each with what a benchmark wants to know of it, and clients that ask on and on.

Nothing is tried again here, and nothing raised: how a request ended is in its `Answer`.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import aiohttp

QUESTION = "Someone used my card at a shop I do not know."
LIMIT_S = 600


class Ending(StrEnum):
    DONE = "done"  # a stream up to its [DONE]
    INTERRUPTED = "interrupted"  # a stream that ended with the event engine_interrupted
    REFUSED = "refused"  # any status but 200
    BROKEN = "broken"  # anything else


@dataclass
class Answer:
    """Times are those of `time.perf_counter`; `first` is 0 where no token came."""

    asked: str
    sent: float
    first: float = 0.0
    ended: float = 0.0
    status: int = 0
    model: str = ""
    text: str = ""
    finish: str = ""
    ending: Ending = Ending.BROKEN
    why: str = ""

    @property
    def ttft(self) -> float:
        return self.first - self.sent

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


class Asker:
    """One server's address, and whoever asks there."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self.url = url

    async def chat(
        self, model: str, max_tokens: int, *, begun: asyncio.Event | None = None, **more: Any
    ) -> Answer:
        """An answer of exactly `max_tokens` tokens unless `more` says otherwise. `begun` is set
        when its first token has come, or it has ended."""
        messages = [{"role": "user", "content": QUESTION}]
        body = {"model": model, "messages": messages, "max_tokens": max_tokens, "temperature": 0,
                "ignore_eos": True, "stream": True, **more}  # fmt: skip
        answer = Answer(model, time.perf_counter())
        try:
            async with self._session.post(f"{self.url}/v1/chat/completions", json=body) as response:
                answer.status = response.status
                if response.status == 200:
                    await _read(response, answer, begun)
                else:
                    answer.ending, answer.why = Ending.REFUSED, (await response.text())[:300]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            answer.why = f"{type(error).__name__}: {error}"
        answer.ended = time.perf_counter()
        if begun is not None:
            begun.set()
        return answer

    async def post(self, path: str, body: dict[str, Any]) -> str:
        """Raises aiohttp.ClientResponseError for any status above 399."""
        async with self._session.post(f"{self.url}{path}", json=body) as response:
            text = await response.text()
            if response.status >= 400:
                raise RuntimeError(f"{path}: HTTP {response.status} {text[:300]}")
            return text

    async def get(self, path: str) -> str:
        async with self._session.get(f"{self.url}{path}") as response:
            response.raise_for_status()
            return await response.text()

    async def load(self, name: str, folder: object) -> None:
        """vLLM's own call."""
        await self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)})

    async def unload(self, name: str) -> None:
        await self.post("/v1/unload_lora_adapter", {"lora_name": name})


@asynccontextmanager
async def askers(*urls: str, key: str | None = None) -> AsyncIterator[list[Asker]]:
    """One for each address, with as many connections as are wanted."""
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=4),
        timeout=aiohttp.ClientTimeout(total=LIMIT_S),
        headers=headers,
    ) as session:
        yield [Asker(session, url) for url in urls]


async def _read(
    response: aiohttp.ClientResponse, answer: Answer, begun: asyncio.Event | None
) -> None:
    async for line in response.content:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            answer.ending = Ending.DONE
            continue
        event = json.loads(line[6:])
        if "error" in event:
            interrupted = event["error"].get("type") == "engine_interrupted"
            answer.ending = Ending.INTERRUPTED if interrupted else Ending.BROKEN
            answer.why = str(event["error"].get("message"))
            continue
        answer.model = event["model"]
        for choice in event["choices"]:
            if "role" not in choice["delta"]:  # that one comes before the first token
                answer.first = answer.first or time.perf_counter()
                if begun is not None:
                    begun.set()
            answer.text += choice["delta"].get("content") or ""
            answer.finish = choice["finish_reason"] or answer.finish


async def ask_on(
    ask: Callable[[], Awaitable[Answer]], clients: int, until: Callable[[], bool]
) -> list[Answer]:
    """`clients` at a time, each again as soon as it is answered, until `until` says so."""
    answers: list[Answer] = []

    async def client() -> None:
        while not until():
            answers.append(await ask())

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def failed(answers: list[Answer]) -> list[Answer]:
    return [answer for answer in answers if answer.ending is not Ending.DONE]
