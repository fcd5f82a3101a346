"""`hub eval --hub URL`: the gate of a hub that is elsewhere opens for what was measured here."""

import asyncio
import json
from pathlib import Path

from tests.command import Hub
from tests.serve.conftest import Gateway, Publish
from tests.serve.engine_double import EngineDouble


async def test_a_version_that_passed_here_is_promoted_there(
    gateway: Gateway, published: Publish, double: EngineDouble, tmp_path: Path
) -> None:
    """Refused before the evaluation (4), kept with the version after it, and then promoted."""
    published("support")
    version = published("support")
    double.text = lambda name: "yes" if name == version.engine_name else "no"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Is number {number} right, please?"},
                {"role": "assistant", "content": "yes"},
            ]
        }
        for number in range(30)
    ]
    (tmp_path / "heldout.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    hub = Hub(tmp_path)
    there = ("--hub", gateway.url)
    refused = await asyncio.to_thread(hub, "promote", version, *there)
    assert (refused.status, refused.stdout) == (4, "")
    asked = ("--data", "heldout.jsonl", "--server", gateway.url)
    result = await asyncio.to_thread(hub, "eval", version, *asked, *there, "--json")
    assert result.status == 0, result.stderr
    assert result.json()["verdict"] == "PASS"
    (kept,) = (await gateway.http.get(f"/hub/adapters/{version}/-/evaluations")).json()
    assert (kept["verdict"], kept["summary"]) == ("PASS", result.json()["summary"])
    await asyncio.to_thread(hub.ok, "promote", version, *there)
    assert (await gateway.chat("support")).json()["model"] == "support@2"


async def test_an_evaluation_that_the_gate_could_not_read_is_refused(
    gateway: Gateway, published: Publish
) -> None:
    """Another verdict, no reason, an unknown version: 400 and 404, and nothing is kept."""
    published("support")
    given = {
        "against": "base",
        "dataset": "rows",
        "dataset_digest": "d" * 64,
        "source": "rows.jsonl",
        "format": "messages",
        "rows": 3,
        "metric": "exact",
        "verdict": "PASS",
        "result": {"summary": "s", "reason": "r"},
    }
    path = "/hub/adapters/support/-/evaluations"
    for change in ({"verdict": "FINE"}, {"result": {"summary": "s"}}, {"rows": "many"}):
        answer = await gateway.http.post(path, json={**given, **change})
        assert answer.status_code == 400, answer.text
    missing = await gateway.http.post("/hub/adapters/other/-/evaluations", json=given)
    assert missing.status_code == 404
    assert (await gateway.http.get(path)).json() == []
    assert (await gateway.http.post(path, json=given)).status_code == 201
