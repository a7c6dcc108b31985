"""The dbserver process: `python -m quakegrid.services.dbserver [--state-dir DIR]`.

Concurrency: one event loop owns the port and all streams; calls run in threads that read through
connections of their own; one writer thread owns the connection that writes, one judges holds, one
drops old logs. The main thread waits for a signal.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Never

from quakegrid.transport import grpc_environment

grpc_environment.tell(os.environ)  # gRPC reads the environment when it is first imported

from quakegrid import errors  # noqa: E402
from quakegrid.clients import key_watch  # noqa: E402
from quakegrid.errors import QuakeGridError  # noqa: E402
from quakegrid.machine import open_files, process_memory, service_files, service_life, service_logs  # noqa: E402
from quakegrid.services.dbserver.housekeeping import Retention  # noqa: E402
from quakegrid.services.dbserver.server import DbServer  # noqa: E402
from quakegrid.settings import config  # noqa: E402
from quakegrid.settings.config import Settings  # noqa: E402

STOP_TIMEOUT_S = 5.0
# A thread gives up Python's lock for each step of SQLite, and gets it back from a busy thread after so long.
# With the default of 5 ms a small write would spend most of its time waiting for the lock.
SWITCH_INTERVAL_S = 0.0005
# Thresholds of Python's garbage collector: how many new objects start a search, and how often it looks
# deeper.
GARBAGE_THRESHOLDS = (10_000, 20, 10)
logger = logging.getLogger("dbserver")


def main() -> int:
    """Serve until a signal comes; returns the exit code."""
    parser = argparse.ArgumentParser(prog="dbserver", description="Serve the job and log database.")
    parser.add_argument("--state-dir", type=Path, help="state of the embedded cluster")
    args = parser.parse_args()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    process_memory.limit_arenas()
    process_memory.give_large_blocks_back()
    service_logs.start()
    try:
        settings = config.load_settings(args.state_dir)
        config.check_authkey(settings, "the dbserver")
        return serve(settings)
    except QuakeGridError as exc:
        print(f"dbserver: {exc}", file=sys.stderr)
        return exc.exit_code


def serve(settings: Settings) -> int:
    """Run the dbserver of these settings until a signal comes or a part of it fails."""
    has_died = threading.Event()
    is_stopping = False
    # A pipe, since a handler that sets an event hangs when it interrupts the wait for that event, and a
    # signal just before a wait would not end it. The interpreter writes a byte for each signal.
    stop, wakeup = os.pipe()
    os.set_blocking(wakeup, False)

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal is_stopping
        if is_stopping:
            _exit_now(errors.EXIT_STOPPED)
        is_stopping = True

    def on_death() -> None:
        has_died.set()
        os.write(wakeup, b"d")

    signal.set_wakeup_fd(wakeup)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    service_life.tell_doubts(settings.warnings)
    open_files.allow_many_files()
    retention = Retention(settings.log_retention_days, settings.log_retention_bytes, settings.audit_days)
    server = DbServer(settings.database, settings.keyring or "", on_death, retention)
    key_watch.follow(settings, "the dbserver")
    is_clean = True
    record: Path | None = None
    try:
        server.listen(settings.dbserver_listen, settings.dbserver_port)
        address = f"{settings.dbserver_listen}:{settings.dbserver_port}"
        record = service_files.write(settings, "dbserver", address)
        _shorten_collections()
        logger.info("dbserver_started address=%s file=%s", address, settings.database)
        os.read(stop, 1)
    finally:
        is_clean = server.close(STOP_TIMEOUT_S)
        if record:
            record.unlink(missing_ok=True)
    logger.info("dbserver_stopped clean=%s", is_clean)
    code = errors.EXIT_FAILED if has_died.is_set() else errors.EXIT_CLEAN
    if not is_clean:
        _exit_now(code or errors.EXIT_STOPPED)  # the interpreter would wait for a thread that hangs
    return code


def _shorten_collections() -> None:
    """Exclude the objects of the start from garbage collections: with them one takes 30 ms, and all wait."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)


def _exit_now(code: int) -> Never:
    logging.shutdown()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
