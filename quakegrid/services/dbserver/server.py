"""The running dbserver: its database, its services and its port, opened and closed in order."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import grpc
import uvloop

from quakegrid.access.proofs import KeyProof
from quakegrid.machine import service_life
from quakegrid.services.dbserver.deletions.reaper import Reaper
from quakegrid.services.dbserver.housekeeping import Housekeeper, Retention
from quakegrid.services.dbserver.jobs import holds
from quakegrid.services.dbserver.jobs.holds import HoldMonitor
from quakegrid.services.dbserver.rpc import servicers
from quakegrid.services.dbserver.rpc.interceptor import CallInterceptor, CallThreads
from quakegrid.services.dbserver.rpc.servicers import Servicers, Store
from quakegrid.services.dbserver.store import schema
from quakegrid.services.dbserver.store.database import Readers
from quakegrid.services.dbserver.store.writer import Writer
from quakegrid.transport import callers, credentials, grpc_channels
from quakegrid.transport.old_keys import OldKeyCheck

CALL_THREADS = 32
# For reads that take milliseconds: they never wait for the writer, as the calls may all do.
READ_THREADS = 8
# For calls that may take minutes: SQL from outside, checks and copies.
SLOW_CALL_THREADS = 4
# For deletions of jobs, which wait for the removal of their rows.
DELETION_CALL_THREADS = 8
T = TypeVar("T")
logger = logging.getLogger("dbserver")
_FOR_EVER = Retention()


class DbServer:
    """Serves one database file on one port until it is closed.

    Raises:
        QuakeGridError: the file is served by another, is not ours, cannot be written, or the port is taken.
    """

    def __init__(
        self, path: Path, proof: KeyProof, on_death: Callable[[], None], retention: Retention = _FOR_EVER
    ) -> None:
        self._lock = schema.lock_database(path)
        self._on_death = on_death
        self._servicers: Servicers | None = None
        try:
            schema.prepare_database(path)
            self._readers = Readers(path)
            self._writer = Writer(path, on_commit=self._on_commit, on_death=on_death)
        except BaseException:
            self._lock.close()
            raise
        leased = holds.held_jobs(self._readers.session())
        self._monitor = HoldMonitor(leased, self._writer, on_death)
        self._reaper = Reaper(self._readers, self._writer, on_death)
        self._housekeeper = Housekeeper(self._readers, self._writer, retention, on_death)
        self._retention = retention
        self._health = service_life.Health(servicers.SERVICES)
        self._proof = proof
        self._calls = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="call")
        self._slow_calls = ThreadPoolExecutor(SLOW_CALL_THREADS, thread_name_prefix="slow-call")
        self._reads = ThreadPoolExecutor(READ_THREADS, thread_name_prefix="read")
        self._deletions = ThreadPoolExecutor(DELETION_CALL_THREADS, thread_name_prefix="deletion-call")
        self._threads = CallThreads(self._calls, self._reads, self._slow_calls, self._deletions)
        self._loop = uvloop.new_event_loop()  # it takes a tenth less time than asyncio's own loop
        self._life = service_life.Life(on_death)
        self._life.guard(self._loop)
        self._loop_thread = threading.Thread(target=self._run_loop, name="loop", daemon=True)
        self._loop_thread.start()
        self._servicers = self._in_loop(self._make_servicers())
        self._port: service_life.Port | None = None
        self._node_ends: asyncio.Task[None] | None = None

    def listen(self, host: str, port: int) -> None:
        """Serve on a port.

        Raises:
            QuakeGridError: the address cannot be used.
        """
        self._in_loop(self._serve(host, port))
        self._in_loop(self._health.tell(is_serving=True))

    def close(self, timeout_s: float) -> bool:
        """Refuse new calls, finish running ones, close the file; False if some calls did not end in time."""
        is_clean = True
        self._loop.call_soon_threadsafe(self._life.end)
        self._monitor.close()
        self._reaper.close(timeout_s * 0.1)  # before the calls that wait for it
        try:
            self._in_loop(self._stop(timeout_s * 0.6), timeout_s * 0.7)
        except TimeoutError:
            is_clean = False
        self._housekeeper.close(timeout_s * 0.1)
        self._readers.interrupt()
        self._loop.call_soon_threadsafe(self._loop.stop)
        if is_clean:
            for threads in (self._calls, self._reads, self._slow_calls, self._deletions):
                threads.shutdown()
            self._readers.close()
        self._writer.close(timeout_s * 0.3)  # the last connection to close writes the log back into the file
        self._lock.close()
        return is_clean

    def _run_loop(self) -> None:
        """Thread: the event loop, which runs until `close` stops it."""
        try:
            self._loop.run_forever()
        except BaseException:
            logger.exception("loop_died")
            self._on_death()
            raise

    async def _serve(self, host: str, port: int) -> None:
        assert self._servicers is not None
        self._port = service_life.Port(partial(self._make_server, host, port))
        await self._port.start()
        self._life.keep(self._port.stay_open(), "port")
        self._node_ends = self._life.keep(self._servicers.watch_node_ends(), "ends of nodes' certificates")

    def _make_server(self, host: str, port: int) -> grpc.aio.Server:
        assert self._servicers is not None
        interceptors = [
            grpc_channels.SameVersion("dbserver"),
            OldKeyCheck(self._proof),
            callers.CallerCheck(
                self._servicers.owner_of_job, self._servicers.valid, auditor=self._servicers.auditor
            ),
            CallInterceptor(self._threads),
        ]
        server = grpc.aio.server(self._calls, interceptors=interceptors, options=grpc_channels.SERVER_OPTIONS)
        self._servicers.register(server)
        self._health.add_to(server)
        words = ("dbserver", "[dbserver] port and listen")
        grpc_channels.bind(server, f"{host}:{port}", self._proof, words)
        return server

    async def _stop(self, timeout_s: float) -> None:
        await self._health.tell(is_serving=False)
        assert self._servicers is not None
        self._servicers.close()
        if self._node_ends:
            self._node_ends.cancel()
        if self._port:
            await self._port.stop(timeout_s)
        self._servicers.end_audit()

    def _in_loop(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def _on_commit(self, touched_jobs: set[int]) -> None:
        if self._servicers is not None:
            self._servicers.ring(touched_jobs)
            self._reaper.ring(touched_jobs)

    async def _make_servicers(self) -> Servicers:
        self._beat()
        return Servicers(
            Store(self._readers, self._writer),
            self._monitor,
            self._reaper,
            self._retention,
            self._threads,
            credentials.Signer(self._proof),
        )

    def _beat(self) -> None:
        """In the event loop: report again and again that the loop works."""
        self._monitor.beat()
        self._loop.call_later(holds.BEAT_EVERY_S, self._beat)
