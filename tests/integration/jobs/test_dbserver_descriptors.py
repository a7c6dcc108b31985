"""What a closed dbserver leaves open in its process."""

from __future__ import annotations

import gc
from pathlib import Path

from tests.support.dbservers import LocalDbServer

TIMES = 8
# Of gRPC, which closes its own later.
MOST_LEFT = TIMES


def open_count() -> int:
    """How many descriptors this process has."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_closed_dbserver_leaves_no_descriptors(dbserver: LocalDbServer) -> None:
    """Its event loop is closed too, which holds five."""
    dbserver.stop()
    before = open_count()
    for _ in range(TIMES):
        dbserver.start()
        assert dbserver.stop() == 0

    assert open_count() - before < MOST_LEFT
