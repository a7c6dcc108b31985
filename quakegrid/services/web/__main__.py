"""The web process: `python -m quakegrid.services.web [--state-dir DIR]`.

Exit codes: 0 stopped by a signal, 1 failed, 2 settings.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from quakegrid.transport import grpc_environment

grpc_environment.tell(os.environ)  # before the first import of gRPC, which reads it then

import uvicorn  # noqa: E402

from quakegrid import errors  # noqa: E402
from quakegrid.clients import key_watch  # noqa: E402
from quakegrid.errors import QuakeGridError  # noqa: E402
from quakegrid.machine import open_files, service_files, service_life, service_logs  # noqa: E402
from quakegrid.services.web import app, engine_views  # noqa: E402
from quakegrid.services.web.access.tls import TlsDoor  # noqa: E402
from quakegrid.services.web.backends import Backends  # noqa: E402
from quakegrid.services.web.connections import PatientProtocol  # noqa: E402
from quakegrid.settings.config import Settings, check_authkey, load_settings  # noqa: E402

# Pages that follow the cluster hold their connections: they are closed after this time.
STOP_GRACE_S = 1
KEEP_ALIVE_S = 30
# Connections and requests at once, above which 503 is answered.
MOST_AT_ONCE = 2000
# Of a request's first line and headers, together.
MOST_HEADER_BYTES = 64 << 10
log = logging.getLogger("quakegrid.web")


class Server(uvicorn.Server):
    """uvicorn's server, whose signals are ours."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def check_settings(settings: Settings) -> None:
    """Refuse settings with which the service would be open to others than it should.

    Raises:
        SettingsError: with what to do.
    """
    if fault := settings.web_access.fault:
        raise errors.SettingsError(f"the web service refuses to start: {fault}")
    check_authkey(settings, "the web service")


async def serve(settings: Settings) -> int:
    """Answer requests until a signal comes, or a part of the service fails.

    Raises:
        QuakeGridError: the port is taken, or settings do not allow to listen.
    """
    check_settings(settings)
    door = TlsDoor(settings) if settings.web_has_tls else None
    service_life.tell_doubts(settings.warnings)
    key_watch.follow(settings, "the web service")
    open_files.allow_many_files()
    loop = asyncio.get_running_loop()
    is_over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, is_over.set)
    life = service_life.Life(is_over.set)
    life.guard(loop)
    engine_views.remove_leftovers(settings.custom_tmp)
    async with Backends(settings, life) as backends:
        config = uvicorn.Config(
            app.make(settings, backends, door),
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_GRACE_S,
            limit_concurrency=MOST_AT_ONCE,
            h11_max_incomplete_event_size=MOST_HEADER_BYTES,
            http=PatientProtocol,
            ssl_context_factory=(lambda *_args: door.context) if door else None,
            ws="none",
        )
        port = app.bind(settings)
        server = Server(config)
        if door:
            life.keep(door.keep_fresh(), "certificate")
        serving = life.keep(server.serve(sockets=[port]), "port")
        address = f"{settings.web_listen}:{settings.web_port}"
        record = service_files.write(settings, "web", address)
        # Garbage collections would walk through all modules each time, and everybody would wait.
        gc.collect()
        gc.freeze()
        log.info("web_started address=%s", address)
        try:
            await is_over.wait()
        finally:
            record.unlink(missing_ok=True)
            life.end()
            backends.end_streams()
            server.should_exit = True
            await asyncio.wait([serving], timeout=STOP_GRACE_S + 2)
    log.info("web_stopped")
    return life.exit_code


def main() -> int:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m quakegrid.services.web", description="QuakeGrid's web service"
    )
    parser.add_argument("--state-dir", type=Path, help="state directory of the cluster")
    args = parser.parse_args()
    service_logs.start()
    try:
        return asyncio.run(serve(load_settings(args.state_dir)))
    except QuakeGridError as exc:
        print(f"web: {exc}", file=sys.stderr)
        return exc.exit_code


if __name__ == "__main__":
    sys.exit(main())
