"""The login in a real browser: refused, accepted, and over again after the logout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.web.logins.conftest import PASSWORD, Team
from tests.support.browsers import chromium

SHOTS = Path(__file__).parents[4] / "build" / "screenshots"


@pytest.fixture
def page(browser: Browser, team: Team) -> Iterator[Page]:
    """A page of the service, on which no script may fail, nor break the rules for scripts."""
    troubles: list[str] = []
    with chromium.opened(browser, team.address, ignore_https_errors=True) as made:
        made.on(
            "console", lambda said: troubles.append(said.text) if "Content Security" in said.text else None
        )
        yield made
    assert troubles == []


def test_person_logs_in_and_out(page: Page, team: Team) -> None:
    """By keyboard alone, and comes to where they wanted to go."""
    page.goto("/cluster")
    expect(page).to_have_url(re.compile(r"/accounts/login/\?next=/cluster$"))

    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type("anna")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("The name or the password is wrong.")
    page.screenshot(path=SHOTS / "login.png", full_page=True)

    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(f"{team.address}/cluster")
    expect(page.get_by_text("anna (user)")).to_be_visible()
    page.screenshot(path=SHOTS / "logged-in.png", full_page=True)
    assert page.evaluate("document.cookie") == ""

    page.goto("/calculations")
    expect(page.get_by_text("of anna")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{team.address}/accounts/login/")
    page.goto("/calculations")
    expect(page).to_have_url(re.compile(r"/accounts/login/"))


@pytest.mark.full
def test_another_window_notices_the_logout(page: Page) -> None:
    """It goes to the login, and does not ask again and again."""
    page.goto("/accounts/login/?next=/calculations")
    page.get_by_label("Name").fill("ben")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("of ben").first).to_be_visible()
    other = page.context.new_page()
    other.goto("/cluster")

    other.get_by_role("button", name="Log out").click()

    expect(other).to_have_url(re.compile(r"/accounts/login/"))
    expect(page).to_have_url(re.compile(r"/accounts/login/"))
