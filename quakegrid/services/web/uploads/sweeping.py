"""Removes inputs whose time is over: of calculations that are gone, or have ended long ago."""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import Awaitable, Callable

from quakegrid.errors import QuakeGridError
from quakegrid.jobs.engine_values import RowValue
from quakegrid.services.web.uploads.inputs import NO_JOB, Inputs, Kept
from quakegrid.services.web.uploads.store import FileStore

log = logging.getLogger("quakegrid.web")
PAUSE_S = 3600.0
FindRow = Callable[[int], Awaitable[RowValue | None]]
Remove = Callable[[Kept], Awaitable[bool]]


async def sweep_for_ever(inputs: Inputs, find_row: FindRow, remove: Remove, keep_days: int) -> None:
    """Sweep at once, then each hour.

    Args:
        inputs: the folders.
        find_row: gives the row of a calculation, None if it is gone.
        remove: removes inputs, with the rights of who has them.
        keep_days: how long inputs stay after the end; 0 for ever.
    """
    while True:
        try:
            await sweep(inputs, find_row, remove, keep_days)
        except QuakeGridError as exc:
            log.warning("inputs_not_swept reason=%s", exc)
        await asyncio.sleep(PAUSE_S)


async def sweep_files_for_ever(store: FileStore, keep_days: int) -> None:
    """Remove files that no calculation has taken for some days; at once, then each hour.

    Args:
        store: of all people's files.
        keep_days: how long they stay; 0 for ever.
    """
    while True:
        try:
            count = await asyncio.to_thread(store.sweep, keep_days)
            if count:
                log.info("files_removed count=%d", count)
        except OSError as exc:
            log.warning("files_not_swept reason=%s", exc.strerror)
        await asyncio.sleep(PAUSE_S)


async def sweep(inputs: Inputs, find_row: FindRow, remove: Remove, keep_days: int) -> None:
    """Remove what is over.

    Raises:
        QuakeGridError: the dbserver does not say; what is left waits for the next time.
    """
    await asyncio.to_thread(inputs.remove_strays)
    now = datetime.datetime.now(datetime.UTC)
    for each in await asyncio.to_thread(lambda: list(inputs.kept())):
        if each.job_id == NO_JOB:
            is_done = inputs.has_waited(each)
        else:
            row = await find_row(each.job_id)
            is_done = row is None or is_over(row["is_running"], row["stop_time"], keep_days, now)
        if is_done:
            await remove(each)


def is_over(
    is_running: object, stop_time: datetime.datetime | None, keep_days: int, now: datetime.datetime
) -> bool:
    """Whether the inputs of a calculation that is there are needed no more."""
    if is_running or stop_time is None or keep_days == 0:
        return False
    return now - stop_time.replace(tzinfo=stop_time.tzinfo or datetime.UTC) > datetime.timedelta(keep_days)
