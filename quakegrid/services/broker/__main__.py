"""The broker process: one event loop for gRPC, nodes and sessions; one child process a lane.

Exit codes: 0 stopped by a signal, 1 failed, 2 settings.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Never

from quakegrid.transport import grpc_environment

grpc_environment.tell(os.environ)  # before the first import of gRPC, which reads it then

from quakegrid import errors  # noqa: E402
from quakegrid.clients import key_watch  # noqa: E402
from quakegrid.errors import QuakeGridError  # noqa: E402
from quakegrid.machine import open_files, service_files, service_life, service_logs  # noqa: E402
from quakegrid.services.broker.broker import Broker  # noqa: E402
from quakegrid.services.broker.server import AUDIT_GRACE_S, BrokerServer  # noqa: E402
from quakegrid.services.broker.status import metrics  # noqa: E402
from quakegrid.services.broker.status.job_totals import JobWatch  # noqa: E402
from quakegrid.settings.config import Settings, check_authkey, load_settings  # noqa: E402

STOP_GRACE_S = 3.0
log = logging.getLogger("quakegrid.broker")


async def serve(settings: Settings, lifeline_fd: int = -1) -> int:
    """Serve until a signal, a failure, or the end of the process that holds our lifeline.

    SIGINT and the lifeline mean that it is over, and drivers are told so. SIGTERM means that another broker
    follows, as in a restart for an upgrade: drivers wait for it.

    Raises:
        QuakeGridError: a port is taken.
    """
    check_authkey(settings, "the broker")
    service_life.tell_doubts(settings.warnings)
    key_watch.follow(settings, "the broker")
    open_files.allow_many_files()  # lanes inherit it
    is_over, is_replaced = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, is_over.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_replaced.set)
    if lifeline_fd >= 0:
        asyncio.get_running_loop().add_reader(lifeline_fd, is_over.set)
    broker = Broker(settings)
    life = service_life.Life(broker.failed.set)
    life.guard(asyncio.get_running_loop())
    jobs = JobWatch(settings)
    server = BrokerServer(broker, settings, jobs.totals)
    has_port = settings.broker_metrics_port
    scrapes = metrics.serve(settings, broker.status, jobs.totals) if has_port else None
    broker.start()
    jobs.start()
    await server.start()
    life.keep(server.wait_until_closed(), "port")
    record = service_files.write(settings, "broker", settings.broker_address)
    waits = [asyncio.ensure_future(event.wait()) for event in (is_over, is_replaced, broker.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    if not is_over.is_set():
        if not broker.failed.is_set():
            await server.end_audit(AUDIT_GRACE_S)  # before: nothing may happen once the lanes are gone
        broker.leave()
        record.unlink(missing_ok=True)
        _leave(_exit_code(broker))
    life.end()
    await jobs.close()
    await server.refuse()
    await broker.stop()
    await server.stop(STOP_GRACE_S)
    if scrapes:
        scrapes.close()
    record.unlink(missing_ok=True)
    return _exit_code(broker)


def _exit_code(broker: Broker) -> int:
    return errors.EXIT_FAILED if broker.failed.is_set() else errors.EXIT_CLEAN


def _leave(exit_code: int) -> Never:
    """End as if killed: drivers wait for the next broker, which goes on with them.

    For a bug of ours, too, which should cost nobody a calculation.
    """
    log.info("broker_left exit_code=%d", exit_code)
    logging.shutdown()
    os._exit(exit_code)


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m quakegrid.services.broker", description="QuakeGrid's broker"
    )
    parser.add_argument("--state-dir", type=Path, help="state directory of the cluster")
    parser.add_argument("--lifeline-fd", type=int, default=-1, help="stop when this pipe closes")
    args = parser.parse_args()
    service_logs.start()
    try:
        return asyncio.run(serve(load_settings(args.state_dir), args.lifeline_fd))
    except QuakeGridError as exc:
        print(f"broker: {exc}", file=sys.stderr)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
