"""One request to an engine, with everything that must hold until its answer begins.

`send` takes a turn, chooses an engine, leases the version there, sends, and looks at the beginning
of the answer. Until that beginning is good nothing has reached the client, so what fails there is
tried again, on another engine if there is one: a connection that fails, a 502, 503 or 504, an empty
body, a 5xx or an error event of an engine that turns out dead, an engine that forgot the adapter.
After `_MAX_TRIES` the request itself is suspect and gets EngineUnavailable: it must not kill engine
after engine.

What comes after the beginning is never tried again: the events end with `[DONE]` or raise
EngineUnavailable where they break. Empty text is not looked for: a model may well say nothing.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson

from hub.errors import DeadlineExceeded, EngineUnavailable
from serve.caller import caller
from serve.engines.base import EngineState
from serve.engines.spec import Loading
from serve.engines.wire import EngineAnswer
from serve.metrics import Metrics
from serve.placement.fleet import Fleet, Held, Member
from serve.placement.turns import Turns
from serve.requests import refusals, sse
from serve.requests.bodies import with_values
from serve.resolver import Arm
from serve.traces import UNTRACED, Trace

_log = logging.getLogger(__name__)

_MAX_TRIES = 3
_RETRY_PAUSE_S = 0.1
_TRY_AGAIN = frozenset({502, 503, 504})
# vLLM's answer to a call that the model has no part for; no failure of the engine's.
_NOT_IMPLEMENTED = 501
_NOT_LOADED = b"The following requested LoRA adapters are not loaded"


@dataclass(frozen=True)
class Reply:
    """An answer that has begun: a whole body in `head`, or a stream with its first events in
    `opening`."""

    status: int
    content_type: str
    head: bytes
    opening: tuple[bytes, ...]
    rest: AsyncIterator[bytes] | None
    engine_name: str

    @property
    def is_stream(self) -> bool:
        return self.rest is not None

    async def events(self) -> AsyncIterator[bytes]:
        """A stream's whole events, the last being one with which it is whole.

        Raises:
            EngineUnavailable: when the stream breaks off.
        """
        for event in self.opening:
            yield event
        if self.rest is not None:
            async for event in self.rest:
                yield event


@dataclass
class _Attempt:
    reply: Reply
    answer: EngineAnswer
    member: Member
    lease: Held | None

    def end(self) -> None:
        self.answer.close()
        if self.lease is not None:
            self.lease.release()
        self.member.running -= 1


class _Forgotten(EngineUnavailable):
    """The engine is well, but has not got the adapter any more."""


class Dispatcher:
    def __init__(self, fleet: Fleet, turns: Turns, metrics: Metrics, *, timeout_s: float) -> None:
        self._fleet = fleet
        self._turns = turns
        self._metrics = metrics
        self._timeout_s = timeout_s
        self._checks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def send(
        self, arm: Arm, path: str, body: bytes, trace: Trace = UNTRACED
    ) -> AsyncIterator[Reply]:
        """The answer of an arm to a body, whose `model` becomes the engine's name for the arm.

        Leaving the block gives turn and lease back, and aborts what the engine still generates.

        Raises:
            Overloaded: when too many wait for their turn.
            DeadlineExceeded: when no answer began in time, waiting for the turn included.
            EngineUnavailable: when none began in `_MAX_TRIES`.
            EngineRefused: when the engine will not load the adapter.
            IntegrityError: when the adapter's files are not what was published.
        """
        try:
            async with asyncio.timeout(self._timeout_s) as limit:
                asking = caller.get()
                with trace.stage("queue"):
                    turn = await self._turns.take((asking.id, arm.adapter), most=asking.concurrent)
                try:
                    if turn.waited_s:
                        self._metrics.queue_wait.observe(turn.waited_s)
                    attempt = await self._begin(arm, path, body, trace, limit)
                except BaseException:  # also a cancelled request: the next one gets its turn
                    turn.release()
                    raise
        except TimeoutError:
            raise DeadlineExceeded(
                f"no answer began within {self._timeout_s:g} s",
                hint="Ask for less at once, or try again when there is less to do.",
            ) from None
        try:
            yield attempt.reply
        finally:
            attempt.end()
            turn.release()

    async def warm(self, arm: Arm) -> None:
        """Have the arm loaded, so that its first answer shows no sign of it. Raises as `send`."""
        if arm.version is not None:
            member = await self._fleet.choose(arm.version)
            try:
                with member.counted():
                    (await member.adapters.acquire(arm.version)).release()
            finally:
                member.breaker.left()

    async def _begin(
        self, arm: Arm, path: str, body: bytes, trace: Trace, limit: asyncio.Timeout
    ) -> _Attempt:
        avoid: list[Member] = []
        for tries_left in reversed(range(_MAX_TRIES)):
            member = await self._fleet.choose(arm.version, avoid=avoid)
            try:
                attempt = await self._try(member, arm, path, body, trace)
            except EngineUnavailable as error:
                if isinstance(error, _Forgotten):
                    member.breaker.left()
                else:
                    member.breaker.failed()
                    avoid.append(member)
                if not tries_left or self._fleet.state is EngineState.STOPPED:
                    raise
                _log.warning("%s at %s: %s; trying again", arm.public, member.engine.name, error)
                self._metrics.retries.inc()
            except BaseException as error:
                # A client that went away says nothing about the engine. One that answers nobody in
                # all of the time that a request has, with no success between, is as good as dead.
                if isinstance(error, asyncio.CancelledError) and _is_over(limit):
                    member.breaker.failed()
                else:
                    member.breaker.left()
                raise
            else:
                if attempt.reply.is_stream:
                    member.breaker.began()
                else:
                    member.breaker.succeeded()
                return attempt
            if member in avoid:
                await self._look_at(member, avoid)
        raise AssertionError("the last try returns or raises")

    async def _look_at(self, member: Member, avoid: list[Member]) -> None:
        """Find out whether an engine is alive; where there is another, without waiting for that."""
        check = asyncio.create_task(member.engine.check(), name=f"check {member.engine.name}")
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)
        if not any(other.is_up and other not in avoid for other in self._fleet.members):
            await asyncio.shield(check)
            await asyncio.sleep(_RETRY_PAUSE_S)

    async def _try(
        self, member: Member, arm: Arm, path: str, body: bytes, trace: Trace
    ) -> _Attempt:
        lease: Held | None = None
        answer: EngineAnswer | None = None
        member.running += 1
        try:
            if arm.version is not None:
                began = time.perf_counter()
                with trace.stage("adapter") as stage:
                    stage.tell({"hub.engine": member.engine.name, "hub.version": arm.public})
                    lease = await member.adapters.acquire(arm.version)
                self._metrics.adapter_wait.observe(time.perf_counter() - began)
            engine = member.engine
            name = engine.model_name(lease.engine_name) if lease else engine.base_model
            named = with_values(body, {"model": orjson.dumps(name)})
            with trace.stage("engine") as stage:
                stage.tell({"hub.engine": engine.name, "server.address": engine.url or ""})
                answer = await engine.open(path, named, stage.headers)
                reply = await self._beginning(member, arm, answer, name)
            return _Attempt(reply, answer, member, lease)
        except BaseException:  # also a cancelled request: its connection and lease are freed
            if answer is not None:
                answer.close()
            if lease is not None:
                lease.release()
            member.running -= 1
            raise

    async def _beginning(self, member: Member, arm: Arm, answer: EngineAnswer, name: str) -> Reply:
        rest: AsyncIterator[bytes] | None = None
        head = b""
        opening: tuple[bytes, ...] = ()
        if answer.is_stream and answer.status == 200:
            rest = _whole_stream(answer, member)
            opening = await _opening(rest)
        else:
            head = await answer.read()
        if answer.status == 200 and not (head or opening):
            raise EngineUnavailable("the engine gave an empty answer")
        if answer.status in _TRY_AGAIN:
            raise EngineUnavailable(f"the engine is not available (HTTP {answer.status})")
        if answer.status >= 500 and answer.status != _NOT_IMPLEMENTED:
            await self._whose_fault(member, arm)
        if arm.version is not None and _is_unknown(answer.status, head):
            member.adapters.forget(arm.version)
            raise _Forgotten("the engine had forgotten the adapter")
        return Reply(answer.status, answer.content_type, head, opening, rest, name)

    async def _whose_fault(self, member: Member, arm: Arm) -> None:
        """Raises EngineUnavailable unless a 5xx is the honest failure of a live engine."""
        await member.engine.check()
        if not member.is_up:
            raise EngineUnavailable("the engine died")
        if arm.version is not None and member.engine.loads is Loading.LAZY:
            # Ray Serve LLM 2.60 fails so when it is asked for an adapter twice at once at first.
            raise EngineUnavailable("the engine failed, perhaps at loading the adapter")


def _is_over(limit: asyncio.Timeout) -> bool:
    end = limit.when()
    return end is not None and asyncio.get_running_loop().time() >= end


def _is_unknown(status: int, head: bytes) -> bool:
    """In vLLM's words, or SGLang's.

    A 400 repeats what the client sent, so only how it begins is the engine's own.
    """
    if status == 400 and _NOT_LOADED in head:
        return refusals.words(head).startswith(_NOT_LOADED.decode())
    return status == 404 and b"does not exist" in head


async def _opening(events: AsyncIterator[bytes]) -> tuple[bytes, ...]:
    """A stream's events up to the first that the engine had to work for: until then it may still
    fail and be asked again."""
    opening = []
    async for event in events:
        opening.append(event)
        if not sse.is_opening(event):
            break
    return tuple(opening)


async def _whole_stream(answer: EngineAnswer, member: Member) -> AsyncIterator[bytes]:
    """The events up to and with the last; a stream that ends before it raises."""
    begun = False
    try:
        async for event in _events(answer):
            if sse.is_last(event):  # now: after it nobody asks for more
                member.breaker.succeeded()
            yield event
            begun = not sse.is_opening(event)
    except EngineUnavailable:
        if begun:  # what fails before is counted where it is tried again
            member.breaker.failed()
        raise


async def _events(answer: EngineAnswer) -> AsyncIterator[bytes]:
    async for event in sse.events(answer.chunks()):
        if _is_engine_failure(event):
            raise EngineUnavailable("the engine failed within its answer")
        yield event
        if sse.is_last(event):
            return
    raise EngineUnavailable("the engine's answer ended too soon")


def _is_engine_failure(event: bytes) -> bool:
    """vLLM's event `{"error": {…, "code": 500}}`, which it sends when its core dies."""
    if b'"error"' not in event[:24]:
        return False
    try:
        error = orjson.loads(sse.data_of(event)).get("error")
    except (orjson.JSONDecodeError, AttributeError):
        return False
    code = error.get("code") if isinstance(error, dict) else None
    return isinstance(code, int) and code >= 500
