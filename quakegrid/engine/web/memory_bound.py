"""The memory that one request of the web service may take: more ends the request, and not others' work."""

from __future__ import annotations

import os
import resource

# Four requests run at once, so all of them leave half of a machine to others.
SHARE = 8
# A person who checks a calculation waits for it alone, and its inputs are read as in a run.
SHARE_OF_CHECK = 2
# A small machine's requests may take so much, since the engine alone has some hundred megabytes.
LEAST_BYTES = 2 << 30


def most_bytes(machine_bytes: int, share: int = SHARE) -> int:
    """What a request may take on a machine with so much memory: one of so many shares."""
    return max(LEAST_BYTES, machine_bytes // share)


def set_here(share: int = SHARE) -> None:
    """Bound this process; a larger allocation raises MemoryError, which says how large it is.

    Args:
        share: one of so many shares of the machine's memory.
    """
    wanted = most_bytes(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), share)
    _soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or wanted < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
