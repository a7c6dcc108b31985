"""The writer's queue and those who fill it."""

from __future__ import annotations

from quakegrid.services.dbserver import server
from quakegrid.services.dbserver.rpc import call_streams, logs
from quakegrid.services.dbserver.store import writer


def test_queue_takes_more_than_all_callers_may_have_under_way() -> None:
    """The event loop never waits for a place in the queue: it would serve nobody meanwhile.

    Besides calls, batches and threads there are the housekeeper, the lease monitor, two writes of the audit
    log, and the stop.
    """
    threads = sum(count for name, count in vars(server).items() if name.endswith("CALL_THREADS"))
    most = call_streams.ALL_CALLS + logs.ALL_BATCHES + threads + 5

    assert threads >= server.CALL_THREADS
    assert most < writer.QUEUE_LENGTH
