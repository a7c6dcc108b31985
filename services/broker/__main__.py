"""The broker process: one event loop for gRPC, nodes and sessions; one child process a lane.

Exit codes: 0 stopped by a signal, 1 failed, 2 settings.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from pathlib import Path

import grpc

from quakegrid import record_files, rpc, run_records, security
from quakegrid.api.v1 import broker_pb2_grpc
from quakegrid.config import Settings, check_listen, load_settings
from quakegrid.errors import QuakeGridError
from services.broker.broker import Broker
from services.broker.server import BrokerServicer

STOP_GRACE_S = 3.0


async def serve(settings: Settings, lifeline_fd: int = -1) -> int:
    """Serve until a signal, a failure, or the end of the process that holds our lifeline.

    Raises:
        QuakeGridError: a port is taken.
    """
    check_listen(settings, settings.broker_listen, "the broker")
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if lifeline_fd >= 0:
        asyncio.get_running_loop().add_reader(lifeline_fd, stopped.set)
    server = grpc.aio.server(options=rpc.SERVER_OPTIONS)
    broker = Broker(settings)
    broker_pb2_grpc.add_BrokerServicer_to_server(
        BrokerServicer(broker, record_files.folder(settings)), server
    )
    address = f"{settings.broker_listen}:{settings.broker_port}"
    try:
        server.add_secure_port(address, security.server_credentials(settings.authkey))
    except RuntimeError:
        raise QuakeGridError(
            f"the broker cannot listen on {address}: the port is in use or the address is not ours; "
            "see [broker] port and listen in openquake.cfg"
        ) from None
    await broker.start()
    await server.start()
    record = run_records.write_record(settings, "broker", settings.broker_address)
    waits = [asyncio.ensure_future(event.wait()) for event in (stopped, broker.failed)]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    await broker.stop()
    await server.stop(STOP_GRACE_S)
    record.unlink(missing_ok=True)
    return 1 if broker.failed.is_set() else 0


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m services.broker", description="QuakeGrid's broker")
    parser.add_argument("--state-dir", type=Path, help="state directory of the cluster")
    parser.add_argument("--lifeline-fd", type=int, default=-1, help="stop when this pipe closes")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        return asyncio.run(serve(load_settings(args.state_dir), args.lifeline_fd))
    except QuakeGridError as exc:
        print(f"broker: {exc}", file=sys.stderr)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
