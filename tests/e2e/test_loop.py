"""The whole loop on real parts: what `hub demo` printed, did and left."""

import json
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest

from tests.e2e.conftest import Demo

QUESTION = [{"role": "user", "content": "Someone used my card at a shop I do not know."}]
STEPS = (
    "init", "base starter", "data lint", "train support", "train payments", "publish payments",
    "serve", "chat base", "chat support", "chat payments", "eval support", "eval payments",
    "feedback", "export", "promote support", "rollback support",
)  # fmt: skip


def ask(demo: Demo, model: str, **options: object) -> openai.types.chat.ChatCompletion:
    return demo.openai().chat.completions.create(
        model=model,
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=60,
        temperature=0,
        **options,  # type: ignore[call-overload]
    )


def test_every_step_is_printed_as_the_command_that_does_it(demo: Demo) -> None:
    """A reader of the demo's output could type it."""
    commands = re.findall(r"^\$ hub (.+)$", demo.output, re.M)
    for step in STEPS:
        assert any(command.startswith(step) for command in commands), step
    assert "Traceback" not in demo.output


def test_tuned_beats_base_by_a_wide_margin_on_both_tasks(demo: Demo) -> None:
    """The held-out sets have 50 rows or more, and the intervals are far from zero."""
    for version in ("support@1", "payments@1", "support@2"):
        evaluation = demo.hub.ok("show", version, "--json").json()["evaluations"][0]
        assert evaluation["verdict"] == "PASS"
        interval = re.search(r"95% interval \+([\d.]+)% to", evaluation["summary"])
        assert interval is not None, evaluation["summary"]
        assert float(interval[1]) > 25
        rows = re.search(r"(\d+) rows", evaluation["summary"])
        assert rows is not None
        assert int(rows[1]) >= 50


def test_feedback_became_the_next_version(demo: Demo) -> None:
    """The correction stands in the exported rows, and support@2 was trained on one row more."""
    (row,) = [
        json.loads(line)
        for line in (demo.hub.home / ".hub" / "corrections.jsonl").read_text().splitlines()
    ]
    assert row["source"]["version"] == "support@1"
    lineage = [
        demo.hub.ok("show", f"support@{number}", "--json").json()["lineage"] for number in (1, 2)
    ]
    assert lineage[1]["dataset"]["rows"] == lineage[0]["dataset"]["rows"] + 1


def test_the_demo_ends_rolled_back(demo: Demo) -> None:
    """Promote and rollback are both in the history, with their verdict."""
    moves = demo.hub.ok("history", "support", "--json").json()
    assert [(m["action"], m["to_number"]) for m in moves][-3:] == [
        ("rollback", 1), ("promote", 2), ("publish", 1),
    ]  # fmt: skip
    assert moves[-2]["verdict"] == "PASS"


def test_the_openai_client_chooses_the_adapter_by_name(demo: Demo) -> None:
    """Base, production and exact versions answer differently, and say who they are."""
    answers = {model: ask(demo, model) for model in ("base", "support", "payments", "support@2")}
    assert answers["base"].model == "starter"
    assert answers["support"].model == "support@1"
    assert answers["support@2"].model == "support@2"
    texts = {model: answer.choices[0].message.content or "" for model, answer in answers.items()}
    assert texts["support"].startswith("[Intent: Fraud Report]")
    assert texts["payments"].startswith("{")
    assert "[Intent" not in texts["base"]


def test_streaming_says_the_same_as_not_streaming(demo: Demo) -> None:
    """Chunks come one by one, add up to the answer, and carry the version."""
    whole = ask(demo, "support").choices[0].message.content
    chunks = list(
        demo.openai().chat.completions.create(
            model="support",
            messages=QUESTION,  # type: ignore[arg-type]
            max_tokens=60,
            temperature=0,
            stream=True,
        )
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == whole
    assert len(chunks) > 5
    assert {chunk.model for chunk in chunks} == {"support@1"}


def test_completions_and_logprobs_pass_through(demo: Demo) -> None:
    """The adapter moves the logits: its first token is all but impossible for the base."""
    probabilities = {}
    for model in ("base", "support"):
        answer = ask(demo, model, logprobs=True, top_logprobs=1)
        assert answer.choices[0].logprobs is not None
        assert answer.choices[0].logprobs.content is not None
        probabilities[model] = answer.choices[0].logprobs.content[0]
    assert probabilities["support"].token != probabilities["base"].token
    completed = demo.openai().completions.create(model="support", prompt="Hello", max_tokens=4)
    assert completed.model == "support@1"


def test_models_lists_the_base_and_everything_published(demo: Demo) -> None:
    """Loaded or not."""
    listed = {model.id for model in demo.openai().models.list()}
    assert {"starter", "support", "support@1", "support@2", "payments", "payments@1"} <= listed
    assert demo.openai().models.retrieve("support@2").id == "support@2"


def test_an_unknown_adapter_is_openais_404(demo: Demo) -> None:
    """The message lists what exists."""
    with pytest.raises(openai.NotFoundError) as missing:
        ask(demo, "suport")
    assert missing.value.code == "model_not_found"
    assert "support" in str(missing.value)
    with pytest.raises(openai.NotFoundError, match="support@1"):
        ask(demo, "support@99")


def test_a_promotion_is_seen_at_the_next_request(demo: Demo) -> None:
    """Another process moves the alias; the server has not been told and follows at once."""
    try:
        for number in (2, 1, 2):
            demo.hub.ok("promote", f"support@{number}", "--why", "test")
            assert ask(demo, "support").model == f"support@{number}"
    finally:
        demo.hub.ok("promote", "support@1", "--why", "test")
    assert ask(demo, "support").model == "support@1"


def test_simultaneous_first_requests_load_once(demo: Demo, tmp_path: Path) -> None:
    """A version that nobody has asked for is loaded by one call, whoever asks first."""
    folder = Path(demo.hub.ok("show", "support@2", "--json").json()["folder"])
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    demo.hub.ok("publish", "crowd", copy)
    before = httpx.get(f"{demo.url}/hub/residency").json()["loads"]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(demo, "crowd"), range(16)))
    assert {answer.model for answer in answers} == {"crowd@1"}
    assert httpx.get(f"{demo.url}/hub/residency").json()["loads"] == before + 1


def test_the_interaction_is_logged_with_what_replays_it(demo: Demo) -> None:
    """The header's id finds the request, the answer and the version."""
    raw = demo.openai().chat.completions.with_raw_response.create(
        model="support",
        messages=QUESTION,  # type: ignore[arg-type]
        max_tokens=60,
        temperature=0,
    )
    interaction = raw.headers["x-hub-interaction-id"]
    logged = httpx.get(f"{demo.url}/hub/interactions/{interaction}").json()
    assert logged["adapter"] == raw.headers["x-hub-adapter"] == "support@1"
    assert logged["answer"] == raw.parse().choices[0].message.content
    assert logged["status"] == "complete"
    feedback = {"interaction_id": interaction, "thumb": 1}
    assert httpx.post(f"{demo.url}/hub/feedback", json=feedback).status_code == 201
    exported = demo.hub.ok("export", "-").stdout
    assert interaction in exported


def test_a_report_and_a_card_were_written(demo: Demo) -> None:
    """The run's report opens without a network, and the card has its header."""
    (run, *_) = demo.hub.ok("runs", "ls", "support", "--json").json()
    report = (demo.hub.home / ".hub" / "runs" / run["id"] / "report.html").read_text()
    assert "<svg" in report
    assert not re.search(r"""(src|href)=["']https?://""", report)
    folder = Path(demo.hub.ok("show", "support@1", "--json").json()["folder"])
    assert (folder / "README.md").read_text().startswith('---\nbase_model: "starter"')
