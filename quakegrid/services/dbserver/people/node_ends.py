"""Tells services when the certificate of a node has ended: nothing is written then that would wake them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from quakegrid import errors
from quakegrid.services.dbserver.people.listed import CredentialWrites

# A clock may be set, and a certificate issued meanwhile.
LONGEST_WAIT_S = 60.0
SHORTEST_WAIT_S = 1.0
logger = logging.getLogger("dbserver")


async def watch(
    writes: CredentialWrites, next_end_s: Callable[[], float | None], clock: Callable[[], float] = time.time
) -> None:
    """Look again at what counts whenever a certificate ends; does not return.

    Args:
        writes: looks, and tells.
        next_end_s: when the next certificate ends.
        clock: seconds since 1970.
    """
    while True:
        end_s = next_end_s()
        wait_s = LONGEST_WAIT_S if end_s is None else min(end_s - clock(), LONGEST_WAIT_S)
        if wait_s > 0:
            await asyncio.sleep(max(wait_s, SHORTEST_WAIT_S))
            continue
        try:
            await writes.do(lambda _session: None)
        except errors.QuakeGridError as exc:  # a full disk; the certificates have ended all the same
            logger.warning("node_ends_not_told reason=%s", exc)
            await asyncio.sleep(SHORTEST_WAIT_S)
