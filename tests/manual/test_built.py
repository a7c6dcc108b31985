"""The manual as `make docs` builds it opens from the disk, loads nothing from elsewhere, and finds words."""

from __future__ import annotations

import os
import re

import pytest
from playwright.sync_api import expect

from tests.manual.pages import ROOT
from tests.support.browsers import chromium

SIZE = {"width": 1400, "height": 900}  # narrower pages hide the field behind a button
BUILT = ROOT / "build" / "docs" / "index.html"


@pytest.mark.full
def test_search_works_from_the_disk() -> None:
    """A word of one page is found, and the link leads to it; no request leaves the machine."""
    if not BUILT.exists():
        assert "CI" not in os.environ, "CI runs `make test-docs`, which builds the manual"
        pytest.skip("needs `make docs`")
    asked: list[str] = []
    with chromium.running() as browser, chromium.opened(browser, "file:///", viewport=SIZE) as page:
        page.on("request", lambda request: asked.append(request.url))
        page.goto(BUILT.as_uri())
        page.locator("input[name=query]").click()
        page.keyboard.type("sendmail")
        found = page.locator(".md-search-result__link").first
        expect(found).to_be_visible()
        found.click()
        expect(page).to_have_url(re.compile("leave-and-come-back[.]html"))

    assert asked
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
