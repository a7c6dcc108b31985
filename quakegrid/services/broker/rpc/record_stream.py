"""The records of a session's tasks, to the end of the file, or on to the end of the session."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from quakegrid.api.v1.task_records_pb2 import TaskRecordBlock
from quakegrid.reports import task_history_files

# How often a file is looked at that grows: its lane writes once a second.
LOOK_S = 0.5
# An empty answer so often shows a reader that has gone.
BEAT_LOOKS = 20
# So often a file is looked at after its session has ended without a last block, as when its lane was killed.
LAST_LOOKS = 4


async def follow(
    path: Path, is_open: Callable[[], bool], stopping: asyncio.Event
) -> AsyncIterator[list[TaskRecordBlock]]:
    """Blocks as they come, until the session has ended or the broker stops; at times none.

    Args:
        path: of the session's file.
        is_open: whether the session is open.
        stopping: set when the broker stops.
    """
    offset, idle_count, ended_count = 0, 0, 0
    while not stopping.is_set():
        blocks, offset = await asyncio.to_thread(task_history_files.parcel, path, offset)
        if blocks:
            yield blocks
            if blocks[-1].closed_time_s:
                return
            idle_count = 0
            continue
        ended_count = 0 if is_open() else ended_count + 1
        if ended_count > LAST_LOOKS:
            return
        idle_count += 1
        if idle_count % BEAT_LOOKS == 0:
            yield []
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOOK_S)
