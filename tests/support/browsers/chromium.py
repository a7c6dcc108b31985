"""Debian's Chromium without a window, and pages in it on which no script may fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

PROGRAM = shutil.which("chromium")
TIMEOUT_MS = 60_000


@contextmanager
def running() -> Iterator[Browser]:
    """The browser; a test that needs it is left out where there is none."""
    if PROGRAM is None:
        pytest.skip("needs Debian's chromium: `make test-tools`")
    # Its sandbox does not work for root.
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=PROGRAM, args=flags, timeout=TIMEOUT_MS)
        yield started
        started.close()


@contextmanager
def opened(browser: Browser, address: str, **options: Any) -> Iterator[Page]:
    """A page of a service, on which no script may fail.

    Args:
        browser: where it opens.
        address: URL of the service.
        options: of the browser's context.
    """
    context = browser.new_context(base_url=address, **options)
    context.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    made = context.new_page()
    troubles: list[str] = []
    made.on("pageerror", lambda error: troubles.append(str(error)))
    yield made
    context.close()
    assert troubles == []
