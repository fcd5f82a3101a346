"""Blind means blind: what reaches the browser before the vote tells nothing."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from hub.records import Version
from serve.placement.lease import Lease
from serve.requests import sse
from tests.serve.conftest import MESSAGES, Gateway, Publish, until
from tests.serve.engine_double import EngineDouble


async def _make(gateway: Gateway, *arms: str) -> httpx.Response:
    body = {"messages": MESSAGES, "arms": arms or ["base", "support"], "max_tokens": 16}
    return await gateway.http.post("/hub/comparisons", json=body)


async def _stream(gateway: Gateway, comparison_id: str) -> httpx.Response:
    return await gateway.http.get(f"/hub/comparisons/{comparison_id}/stream")


async def _vote(gateway: Gateway, comparison_id: str, vote: str) -> httpx.Response:
    return await gateway.http.post(f"/hub/comparisons/{comparison_id}/vote", json={"vote": vote})


def _events(answer: httpx.Response) -> list[dict[str, Any]]:
    parts = [sse.data_of(part) for part in answer.content.split(b"\n\n") if part]
    assert parts.pop() == b"[DONE]"
    return [json.loads(part) for part in parts]


def _raw(answer: httpx.Response) -> bytes:
    head = b"\n".join(name + b": " + value for name, value in answer.headers.raw)
    return head + b"\n" + answer.content


async def test_two_answers_a_vote_and_then_the_arms(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Deltas of both sides add up to the logged answers; the vote reveals exact versions."""
    published("support")
    made = await _make(gateway)
    assert made.status_code == 201
    events = _events(await _stream(gateway, made.json()["id"]))
    texts = {
        side: "".join(event.get("delta", "") for event in events if event["side"] == side)
        for side in ("left", "right")
    }
    assert {"side": "left", "done": True} in events
    assert {"side": "right", "done": True} in events
    revealed = (await _vote(gateway, made.json()["id"], "left")).json()
    assert revealed["vote"] == "left"
    assert {revealed[side]["arm"] for side in texts} == {"base", "support@1"}
    for side, text in texts.items():
        logged = await gateway.http.get(f"/hub/interactions/{revealed[side]['interaction_id']}")
        assert logged.json()["answer"] == text
        assert logged.json()["adapter"] == revealed[side]["arm"]
        assert logged.json()["endpoint"] == "chat"
        assert logged.json()["completion_tokens"]
    assert {asked["max_tokens"] for asked in double.asked} == {16}


async def test_no_byte_before_the_vote_names_an_arm(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Headers and bodies of making and streaming, also where the engine fails for one arm only."""
    version = published("support")
    double.text = lambda name: "the very same words"
    received = b""
    for fault in ([], ["refuse"], ["cut"], ["core_died"]):
        double.faults = list(fault)
        made = await _make(gateway)
        received += _raw(made) + _raw(await _stream(gateway, made.json()["id"]))
    ids = [entry.id.encode() for entry in gateway.logged()]
    for secret in (b"support", b"tiny", b"base", version.digest[:6].encode(), *ids, b"model"):
        assert secret not in received.lower()
    for leak in (b"x-hub", b"usage", b"tokens", b"chatcmpl"):
        assert leak not in received.lower()


async def test_both_orders_occur(gateway: Gateway, published: Publish) -> None:
    """Thirty comparisons: all on one side has a chance of one in five hundred million."""
    published("support")

    async def left_arm() -> str:
        made = (await _make(gateway)).json()["id"]
        await _stream(gateway, made)
        return str((await _vote(gateway, made, "none")).json()["left"]["arm"])

    lefts = await asyncio.gather(*(left_arm() for _ in range(30)))
    assert set(lefts) == {"base", "support@1"}


async def test_a_failing_side_ends_alone(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """One side gets an error event, the other its answer; both are logged."""
    published("support")
    double.faults = ["refuse"]
    made = (await _make(gateway)).json()["id"]
    events = _events(await _stream(gateway, made))
    failed = [event["side"] for event in events if "error" in event]
    done = [event["side"] for event in events if "done" in event]
    assert len(failed) == len(done) == 1
    assert failed != done
    assert sorted(entry.status for entry in gateway.logged()) == ["complete", "failed"]


async def test_every_failure_reads_the_same_to_the_browser_and_plainly_in_the_log(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """A refusal, a dead engine, an adapter that will not load: which one, only the log says."""
    published("support")
    said, logged = set(), []
    for faults, load_refusal in ((["refuse"], None), (["cut"], None), ([], "rank is too high")):
        if load_refusal:
            published("other")
        double.faults, double.load_refusal = faults, load_refusal
        arms = ("base", "other") if load_refusal else ("support", "support@1")
        made = (await _make(gateway, *arms)).json()["id"]
        events = _events(await _stream(gateway, made))
        said |= {event["error"]["message"] for event in events if "error" in event}
        logged += [entry.error for entry in gateway.logged() if entry.status != "complete"]
    assert len(said) == 1
    assert "HTTP 400: `support@1` takes 16 tokens at most" in logged
    assert any("rank is too high" in str(error) for error in logged)


@pytest.mark.parametrize("vote", ["left", "right", "tie"])
async def test_a_side_that_failed_can_be_neither_chosen_nor_passed_over(
    gateway: Gateway, published: Publish, double: EngineDouble, vote: str
) -> None:
    """409 for a vote that compares; saying that both are bad, or just looking, is allowed."""
    published("support")
    for allowed in ("both_bad", "none"):
        double.faults = ["refuse"]
        made = (await _make(gateway)).json()["id"]
        await _stream(gateway, made)
        answer = await _vote(gateway, made, vote)
        assert answer.status_code == 409
        assert "a side of this comparison failed" in answer.json()["error"]["message"]
        assert (await _vote(gateway, made, allowed)).status_code == 200


async def test_neither_loading_nor_sending_goes_by_the_sides(
    gateway: Gateway, published: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leases are taken by name for the loads, and in an order drawn anew for the answers."""
    published("one"), published("two")
    taken: list[str] = []
    residency = gateway.residency
    acquire = residency.acquire

    async def noted(version: Version) -> Lease:
        taken.append(str(version))
        return await acquire(version)

    monkeypatch.setattr(residency, "acquire", noted)
    left_first = set()
    for _ in range(30):
        made = (await _make(gateway, "two", "one")).json()["id"]
        await _stream(gateway, made)
        left = (await _vote(gateway, made, "none")).json()["left"]["arm"]
        assert taken[:2] == ["one@1", "two@1"]
        left_first.add(taken[2] == left)
        taken.clear()
    assert left_first == {True, False}


async def test_it_is_streamed_once_and_voted_on_once(gateway: Gateway, published: Publish) -> None:
    """409 for a second stream, a vote before the answers, and a second vote."""
    published("support")
    made = (await _make(gateway)).json()["id"]
    assert (await _vote(gateway, made, "left")).status_code == 409
    await _stream(gateway, made)
    assert (await _stream(gateway, made)).status_code == 409
    assert (await _vote(gateway, made, "tie")).status_code == 200
    assert (await _vote(gateway, made, "left")).status_code == 409


async def test_unknown_arms_and_comparisons_are_404(gateway: Gateway) -> None:
    """At making, at streaming, at voting."""
    assert (await _make(gateway, "base", "nope")).status_code == 404
    assert (await _stream(gateway, "cmp_nope")).status_code == 404
    assert (await _vote(gateway, "cmp_nope", "left")).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"arms": ["base"]},
        {"messages": []},
        {"vote": 1},
        {"max_tokens": 0},
        {"temperature": 9},
        {"messages": [{"role": "user"}]},
        {"messages": [{"role": "robot", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": ["Hi"]}]},
    ],
)
async def test_a_bad_request_says_which_field(gateway: Gateway, change: dict[str, Any]) -> None:
    """400 in OpenAI's shape, naming it."""
    body = {"messages": MESSAGES, "arms": ["base", "base"], **change}
    answer = await gateway.http.post("/hub/comparisons", json=body)
    assert answer.status_code == 400
    assert next(iter(change)) in answer.json()["error"]["message"]


async def test_a_page_that_leaves_frees_both_sides(
    gateway: Gateway, published: Publish, double: EngineDouble
) -> None:
    """Both requests are aborted and logged as incomplete."""
    published("support")
    double.hold.clear()
    made = (await _make(gateway)).json()["id"]
    async with gateway.http.stream("GET", f"/hub/comparisons/{made}/stream"):
        await until(lambda: len(double.asked) == 2)
    entries = await gateway.logged_soon(2)
    assert {entry.status for entry in entries} == {"incomplete"}
    assert gateway.parts.admission.inside == 0
    assert gateway.residency.residents()[0].leases == 0
