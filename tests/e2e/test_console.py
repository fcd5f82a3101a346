"""The console in a real Chromium, against the real server."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser import find
from tests.e2e.conftest import Demo

ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
PROMPT = "Someone stole my wallet and used my card."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, demo: Demo) -> Iterator[Page]:
    """A page that may reach the server and nothing else."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.route(
        "**/*",
        lambda route: (
            route.continue_() if route.request.url.startswith(demo.url) else route.abort()
        ),
    )
    yield page
    page.close()


def test_two_answers_stream_side_by_side_and_are_voted_on(page: Page, demo: Demo) -> None:
    """Pick two arms, ask, watch, vote blind, see who was who, correct the answer."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    # Chromium calls a body that was read as a stream "aborted" even at its regular end.
    page.on(
        "requestfailed",
        lambda request: None if request.url.endswith("/stream") else problems.append(request.url),
    )
    before_vote: list[str] = []
    page.on(
        "response",
        lambda response: (
            before_vote.append(str(response.headers))
            if "/hub/comparisons" in response.url
            else None
        ),
    )
    page.goto(f"{demo.url}/console/#left=base&right=support")
    page.get_by_test_id("arm-a").fill("base")
    page.get_by_test_id("arm-b").fill("support@1")
    page.get_by_test_id("prompt").fill(PROMPT)
    page.get_by_test_id("run").click()
    expect(page.get_by_test_id("vote-left")).to_be_enabled(timeout=60_000)
    left = page.get_by_test_id("answer-left").inner_text()
    right = page.get_by_test_id("answer-right").inner_text()
    assert left
    assert right
    tuned = "left" if left.startswith("[Intent:") else "right"
    assert (left if tuned == "left" else right).startswith("[Intent: Fraud Report]")
    assert not any("support" in headers for headers in before_vote)
    page.get_by_test_id(f"vote-{tuned}").click()
    expect(page.get_by_test_id(f"reveal-{tuned}")).to_have_text("support@1")
    page.get_by_test_id(f"edit-{tuned}").click()
    page.get_by_test_id("edit-text").fill("[Intent: Fraud Report] I am sorry. Which card is it?")
    page.get_by_test_id("edit-save").click()
    expect(page.get_by_text("hub export")).to_be_visible(timeout=10_000)
    assert problems == []
    exported = demo.hub.ok("export", "-", "--format", "dpo", "--adapter", "support").stdout
    assert "Which card is it?" in exported


def test_an_unknown_arm_is_explained_on_the_page(page: Page, demo: Demo) -> None:
    """The server's own words, with what exists."""
    page.goto(f"{demo.url}/console/")
    page.get_by_test_id("arm-a").fill("base")
    page.get_by_test_id("arm-b").fill("suport")
    page.get_by_test_id("prompt").fill(PROMPT)
    page.get_by_test_id("run").click()
    expect(page.get_by_text("no adapter 'suport'")).to_be_visible(timeout=10_000)
