"""A service's log on a real file."""

from __future__ import annotations

import logging
from pathlib import Path

from quakegrid.machine import service_logs
from quakegrid.machine.service_logs import BoundedHandler

MAX_BYTES = 10_000


def fill(path: Path, mode: str, line_count: int) -> None:
    """Log lines of some hundred bytes to a file."""
    with path.open(mode, encoding="utf-8") as file:
        handler = BoundedHandler(file, MAX_BYTES)
        for number in range(line_count):
            line = f"{number:05} {'x' * 90}"
            handler.handle(logging.LogRecord("filler", logging.INFO, "", 0, line, (), None))


def test_full_log_is_put_aside(tmp_path: Path) -> None:
    """However many lines come, there are two files, and the last lines are in them."""
    path = tmp_path / "broker.log"

    fill(path, "a", 2050)

    bound = MAX_BYTES + service_logs.LOOK_EVERY_LINES * 97
    kept = [*tmp_path.joinpath("broker.log.1").read_text().splitlines(), *path.read_text().splitlines()]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broker.log", "broker.log.1"]
    assert max(file.stat().st_size for file in tmp_path.iterdir()) <= bound
    assert [int(line[:5]) for line in kept] == list(range(2050 - len(kept), 2050))


def test_file_that_is_not_appended_to_is_left_alone(tmp_path: Path) -> None:
    """Emptied, it would be filled with zeros up to where its writer is."""
    path = tmp_path / "mine.txt"

    fill(path, "w", 300)

    assert len(path.read_text().splitlines()) == 300
