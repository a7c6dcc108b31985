"""What /proc tells of processes, whatever they are called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from quakegrid.machine import process_stats
from tests.support.nodes import wait_until

NAME = "a) Z 1 ("


def test_fields_are_those_behind_a_name_that_looks_like_some() -> None:
    """A program may call itself anything."""
    code = f"open('/proc/self/comm', 'w').write({NAME!r}); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()

        found = process_stats.fields(process.pid)

        assert found[process_stats.STATE] in (b"S", b"R")
        assert found[process_stats.PARENT] == b"%d" % os.getpid()
        assert found[process_stats.GROUP] == found[process_stats.SESSION] == b"%d" % process.pid
        assert process_stats.start_ticks(process.pid) >= process_stats.start_ticks(os.getpid())
        process.kill()
        wait_until(lambda: process_stats.fields(process.pid)[process_stats.STATE] == b"Z")
        assert process_stats.start_ticks(process.pid) == -1
        assert int(process_stats.fields(process.pid)[process_stats.EXIT_STATUS]) == signal.SIGKILL
    assert process_stats.fields(process.pid) == []
    assert process_stats.start_ticks(process.pid) == -1


def test_other_root_may_be_read(tmp_path: Path) -> None:
    """As tests of measurements do."""
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "stat").write_text("12 (name) S 1 2 3")

    assert process_stats.fields(12, tmp_path) == [b"S", b"1", b"2", b"3"]
    assert process_stats.fields(13, tmp_path) == []
