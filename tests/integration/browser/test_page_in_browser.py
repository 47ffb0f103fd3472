"""The page of on-call as people meet it: by keyboard, on a phone, in the dark, without a script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, ViewportSize, expect

from tests.integration.browser.conftest import PATIENCE_MS

if TYPE_CHECKING:
    from tests.integration.browser.conftest import Served

GRAVE = ("serious", "critical")
DESK: ViewportSize = {"width": 1280, "height": 800}
PHONE: ViewportSize = {"width": 375, "height": 740}
LOOKS: tuple[tuple[Literal["light", "dark"], ViewportSize], ...] = (
    ("light", DESK),
    ("dark", PHONE),
)


# What makes a page wider than its window, if anything does.
TOO_WIDE = """() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room) return [];
    return [...document.querySelectorAll("body *")]
        .filter((one) => one.getBoundingClientRect().right > room)
        .map((one) => one.outerHTML.slice(0, 200));
}"""


def settled(page: Page, address: str) -> None:
    """Open a page, and wait for the parts of it that come later."""
    page.goto(address)
    expect(page.locator("[data-load]:not([data-brought])")).to_have_count(0, timeout=PATIENCE_MS)


def violations(page: Page) -> list[str]:
    found: dict[str, Any] = Axe().run(page).response
    return [
        f"{page.url}: {one['id']}: {node['html'][:200]}"
        for one in found["violations"]
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def test_axe_finds_nothing_serious_and_nothing_runs_sideways(
    browser: Browser, served: Served
) -> None:
    for scheme, size in LOOKS:
        with browser.new_context(color_scheme=scheme, viewport=size) as context:
            bare = context.new_page()
            bare.goto(f"{served.address}/page/sign-in")
            assert violations(bare) == []
            page = served.sign_in(context)
            for path in served.pages:
                settled(page, served.address + path)
                assert violations(page) == []
                assert page.evaluate(TOO_WIDE) == [], path


def test_nothing_is_refused_by_its_own_policy_and_text_stays_text(
    browser: Browser, served: Served
) -> None:
    complaints: list[str] = []
    with browser.new_context() as context:
        context.on("console", lambda said: complaints.append(said.text))
        context.on("weberror", lambda error: complaints.append(str(error.error)))
        page = served.sign_in(context)
        for path in served.pages:
            settled(page, served.address + path)
            assert page.title() != "taken"
            assert page.locator("main img").count() == 0
    grave = [said for said in complaints if "Password forms should" not in said]
    assert grave == []


def test_what_happens_elsewhere_is_seen_without_a_reload(browser: Browser, served: Served) -> None:
    with browser.new_context() as context:
        page = served.sign_in(context)
        page.goto(f"{served.address}/page/incidents/{served.incident}")
        expect(page.locator("#live")).to_have_text("live")
        expect(page.locator("#now .state")).to_have_text("open")
        page.evaluate("window.here = true")
        asked = f"/v1/incidents/{served.incident}/acknowledge"
        assert served.ask(asked, actor="pat").status_code == 200
        expect(page.locator("#now .state")).to_have_text("acknowledged", timeout=30_000)
        expect(page.locator("#story")).to_contain_text("Acknowledged by pat.")
        expect(page.locator("h1")).to_have_count(1)
        assert page.evaluate("window.here")


def test_an_incident_is_acknowledged_by_keyboard_alone(browser: Browser, served: Served) -> None:
    with browser.new_context() as context:
        page = served.sign_in(context)
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        expect(page.locator("#incidents a")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url(f"**/page/incidents/{served.incident}")
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.textContent") == "Acknowledge":
                break
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect(page.locator("#now .state")).to_have_text("acknowledged")
        expect(page.locator("#story")).to_contain_text("Acknowledged by admin.")


def test_without_a_script_every_part_is_one_link_away(browser: Browser, served: Served) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = served.sign_in(context)
        page.goto(f"{served.address}/page/models/digits")
        page.click("text=Show the timeline")
        expect(page.locator(".happenings")).to_contain_text("v1 champion")
        expect(page.locator("#versions")).to_contain_text("MLflow does not answer")
        page.locator(".happenings a").first.click()
        expect(page.locator("section#next")).to_contain_text("routing")
        page.goto(f"{served.address}/page/incidents/{served.incident}")
        page.click("text=Look at the rows behind it")
        expect(page.locator("#evidence")).to_contain_text("no test, a fact")


def test_a_person_signs_in_at_the_provider_acts_by_name_and_signs_out(
    browser: Browser, served: Served
) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{served.address}/page/incidents/{served.incident}")
        expect(page.get_by_role("link", name="Sign in with single sign-on")).to_be_focused()
        page.keyboard.press("Enter")
        page.wait_for_url(f"{served.provider.issuer}/**")
        page.get_by_role("button", name="ann").click()
        page.wait_for_url(f"{served.address}/page/incidents/{served.incident}")
        expect(page.locator(".who")).to_contain_text("ann@example.org")
        page.get_by_text("Acknowledge", exact=True).first.click()
        page.get_by_role("button", name="Yes, I have it").click()
        expect(page.locator("#story")).to_contain_text("Acknowledged by ann@example.org.")
        expect(page.get_by_role("link", name="Promote a version")).to_have_count(0)
        page.get_by_role("button", name="Sign out").click()
        page.goto(f"{served.address}/")
        assert "/page/sign-in" in page.url


def test_whom_nothing_is_granted_reads_why_in_plain_words(browser: Browser, served: Served) -> None:
    with browser.new_context(color_scheme="dark", viewport=PHONE) as context:
        page = context.new_page()
        page.goto(f"{served.address}/page/sign-in")
        page.get_by_role("link", name="Sign in with single sign-on").click()
        page.get_by_role("button", name="bob").click()
        expect(page.locator("main")).to_contain_text("nothing here is granted to you")
        assert violations(page) == []
        assert page.evaluate(TOO_WIDE) == []


@pytest.mark.parametrize("path", ["/page/models/digits"])
def test_a_session_that_ends_leads_to_signing_in(
    browser: Browser, served: Served, path: str
) -> None:
    with browser.new_context() as context:
        page = served.sign_in(context)
        page.goto(served.address + path)
        context.clear_cookies()
        page.goto(served.address + path)
        assert page.url.endswith("/page/sign-in?next=%2Fpage%2Fmodels%2Fdigits")
