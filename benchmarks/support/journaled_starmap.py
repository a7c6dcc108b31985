"""Times empty tasks of the engine's Starmap in a driver of QuakeGrid, with and without a journal, in turns.

Run by `quakegrid oq shell`; prints {"plain_us": ..., "journaled_us": ..., "bytes": ...}, a task, as JSON.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

COUNT, ROUNDS = 500, 5
MICRO = 1e6


def empty(_number: int, _monitor: Any) -> None:
    """Do nothing."""


def time_us() -> float:
    """A Starmap of empty tasks; the time of one."""
    from openquake.baselib.parallel import Starmap

    start_s = time.perf_counter()
    assert list(Starmap(empty, [(number,) for number in range(COUNT)])) == [None] * COUNT
    return (time.perf_counter() - start_s) / COUNT * MICRO


def main(_verbose: bool = False) -> None:
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
            plain.append(time_us())
            file = JournalFile(Path(folder, f"{number}.journal"), is_new=True)
            journal = JobJournal(file, JournalRoom(Path(folder), 1 << 40), Telling(print, print, diverged))
            journal.begin()
            driver.starmaps.journal = journal
            journaled.append(time_us())
            driver.starmaps.journal = NoJournal()
            journal.end(is_complete=False)
            size = file.path.stat().st_size
    found = {"plain_us": min(plain[1:]), "journaled_us": min(journaled[1:]), "bytes": size / COUNT}
    print(json.dumps(found))
