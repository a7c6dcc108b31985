"""Times empty tasks of the engine's Starmap in a driver of QuakeGrid, with and without a journal, in turns.

Run by `quakegrid oq shell`; prints for a task, as JSON: its time and the CPU time of the driver, each without
a journal and with one, and its bytes there. The CPU time includes that of the journal's thread.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

COUNT, ROUNDS = 500, 9
MICRO = 1e6


def empty(_number: int) -> None:
    """Do nothing."""


def times_us() -> tuple[float, float]:
    """A Starmap of empty tasks; the time of one, and the CPU time of this process in it."""
    from openquake.baselib.parallel import Starmap

    start_s, cpu_s = time.perf_counter(), time.process_time()
    assert list(Starmap(empty, [(number,) for number in range(COUNT)])) == [None] * COUNT
    scale = MICRO / COUNT
    return (time.perf_counter() - start_s) * scale, (time.process_time() - cpu_s) * scale


def main(verbose: bool = False) -> None:  # noqa: ARG001 - as `oq shell` calls it
    """Measure in turns; the least of rounds after one to warm up."""
    from quakegrid.engine import this_process
    from quakegrid.engine.replay.job_journal import JobJournal, NoJournal, Telling
    from quakegrid.journals.files import JournalFile, JournalRoom

    def diverged(reason: str) -> Any:
        raise AssertionError(reason)

    driver: Any = this_process.current()
    plain, journaled, size = [], [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS + 1):
            driver.starmaps.journal = NoJournal()
            plain.append(times_us())
            file = JournalFile(Path(folder, f"{number}.journal"), is_new=True)
            journal = JobJournal(file, JournalRoom(Path(folder), 1 << 40), Telling(print, print, diverged))
            journal.begin()
            driver.starmaps.journal = journal
            journaled.append(times_us())
            driver.starmaps.journal = NoJournal()
            journal.end(is_complete=False)
            size = file.path.stat().st_size
    found = {"bytes": size / COUNT}
    for name, times in (("plain", plain[1:]), ("journaled", journaled[1:])):
        found[f"{name}_us"] = min(wall_us for wall_us, _ in times)
        found[f"{name}_cpu_us"] = min(cpu_us for _, cpu_us in times)
    print(json.dumps(found))
