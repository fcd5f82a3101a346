"""The console in a real Chromium, at a gateway that wants API keys; its engine is the double."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright, expect

from tests.browser import find
from tests.e2e.test_console import ARGUMENTS
from tests.serve.conftest import Gateway, Publish, double, gateway, published, settings
from tests.serve.keyed import Keys, keys

__all__ = ["double", "gateway", "keys", "published", "settings"]


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=find(), args=ARGUMENTS)
        yield await browser.new_page(viewport={"width": 1280, "height": 900})
        await browser.close()


async def test_a_key_is_asked_for_kept_in_the_tab_and_sent(
    page: Page, gateway: Gateway, keys: Keys, published: Publish
) -> None:
    """401 brings up the field; a wrong key is said to be wrong; with the right one everything
    works, a comparison and its vote too; nothing but this tab's session has the key."""
    published("acme/x"), published("other/x")
    secret = keys("acme", "infer feedback", "acme")["authorization"].removeprefix("Bearer ")
    await page.goto(f"{gateway.url}/console/")
    field = page.get_by_test_id("api-key")
    await expect(field).to_be_visible()
    await expect(field).to_be_focused()
    await expect(page.get_by_text("wants an API key").first).to_be_visible()
    await field.fill("loom_0123456789ab_wrong")
    await field.press("Enter")
    await expect(page.get_by_text("does not know this API key").first).to_be_visible()
    await field.fill(secret)
    await field.press("Enter")
    await expect(page.get_by_role("button", name="acme/x")).to_be_visible()
    assert "other/x" not in await page.content()
    await page.get_by_test_id("arm-a").fill("base")
    await page.get_by_test_id("arm-b").fill("acme/x")
    await page.get_by_test_id("prompt").fill("Hello")
    await page.get_by_test_id("run").click()
    await expect(page.get_by_test_id("vote-left")).to_be_enabled()
    await page.get_by_test_id("vote-left").click()
    await expect(page.get_by_test_id("reveal-left")).to_be_visible()
    session, *elsewhere = await page.evaluate(
        "[JSON.stringify({...sessionStorage}), JSON.stringify({...localStorage}),"
        " document.cookie, location.href]"
    )
    assert secret in session
    assert secret not in "".join(elsewhere)
    await page.reload()
    await expect(page.get_by_role("button", name="acme/x")).to_be_visible()
