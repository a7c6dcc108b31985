"""The pages that `make reference` writes are what the code says now."""

from __future__ import annotations

import subprocess
import sys

from tests.manual.pages import GENERATED, ROOT
from tests.manual.reference.pages import PAGES


def test_pages_are_what_the_code_says() -> None:
    """`make reference` was run after the last change of a command, setting, metric, error, route or call.

    In a process of its own: click keeps in a command how it was called first.
    """
    command = [sys.executable, "-m", "tests.manual.reference", "--check"]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.stdout == "", "these pages are stale: run `make reference`"
    assert done.returncode == 0


def test_what_is_generated_is_left_out_of_checks_of_prose() -> None:
    """The pages that are made, and no others."""
    assert set(PAGES) == set(GENERATED)
