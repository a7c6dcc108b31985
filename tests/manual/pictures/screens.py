"""Photographs of pages in Debian's Chromium, and of what commands print."""

from __future__ import annotations

import io
import re
from pathlib import Path

from playwright.sync_api import Page
from rich.console import Console
from rich.text import Text

from tests.manual.terminal import Terminal
from tests.support.browsers import chromium

WIDTH = 100
# What moves on a page comes to rest meanwhile.
REST_MS = 2000
SIZE = {"width": 1280, "height": 700}
# A machine that does other things, too, takes long to come to the stage that is wanted.
PATIENCE_MS = 120_000
# The stage that takes most of the time, when it is known how long it still takes.
_MAIN_STAGE = re.compile(r"^\s*classical[^a-z_].*left", re.DOTALL)
# A finer grid and finer sources make the demo's model run for half a minute or more.
FINER = " ".join(
    f"-p {name}"
    for name in (
        "region_grid_spacing=2",
        "rupture_mesh_spacing=1.5",
        "width_of_mfd_bin=0.1",
        "area_source_discretization=5",
        "concurrent_tasks=24",
    )
)
_PASSING = re.compile(r"(?:WARNING|INFO) |[\w ]+: \d+ of \d+ tasks done|loading the engine")
_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
# The fonts of rich's own style come from elsewhere.
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def shown(terminal: Terminal, command: str) -> str:
    """A terminal with a command and what it prints, as an SVG."""
    printed, code = terminal.run(command)
    assert code == 0, printed
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    for line in printed:
        if not _PASSING.match(line):
            console.print(Text(_ADDRESS.sub("http://127.0.0.1:8800", line)))
    return _FONT.sub("", console.export_svg(title="QuakeGrid"))


def photograph(terminal: Terminal, folder: Path) -> None:
    """Pages of a cluster whose demo has run: a result, the cluster, and a calculation while it runs."""
    printed, _ = terminal.run("quakegrid web open --no-browser")
    (address,) = {found[0] for line in printed if (found := _ADDRESS.search(line))}
    with chromium.running() as browser, chromium.opened(browser, address, viewport=SIZE) as page:
        page.goto("/calculations/1")
        page.get_by_role("button", name="Hazard map").click()
        _take(page, "#picture svg", folder / "result.png", part="#pictures")
        page.goto("/cluster")
        _take(page, "main", folder / "cluster.png")
        terminal.run(f"quakegrid run --detach quakegrid-demo/job.ini {FINER}")
        page.goto("/calculations/3")
        stage = page.locator("#stages li").filter(has_text=_MAIN_STAGE)
        stage.wait_for(timeout=PATIENCE_MS)
        _take(page, "#stages", folder / "live.png")
        terminal.run("quakegrid abort -1")
        page.goto("/calculations/3/tasks")
        _take(page, "main svg, main canvas", folder / "tasks.png")


def _take(page: Page, selector: str, target: Path, *, part: str = "") -> None:
    """Photograph a page, or a part of it, when it has what the selector wants."""
    page.locator(selector).first.wait_for()
    page.wait_for_timeout(REST_MS)
    (page.locator(part) if part else page).screenshot(path=target)
