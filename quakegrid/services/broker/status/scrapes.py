"""The HTTP server for Prometheus. Anybody who reaches its port may connect without a key, so it has limits.

A limited number of connections are answered at once, each in a thread of its own; others are closed. A
connection whose request does not come in time is closed, too. A stranger who holds all connections keeps
Prometheus out, and delays nothing else. Does not depend on the metrics.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

log = logging.getLogger("quakegrid.broker")
MAX_CONNECTIONS = 16
REQUEST_TIMEOUT_S = 5.0
Application = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_TIMEOUT_S  # for each piece of the request

    def log_message(self, *_args: Any) -> None:
        """Log nothing, since strangers could fill the log."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, *args: Any) -> None:
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, if one is free."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection, in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Log an error at level DEBUG only, since most are strangers that went away."""
        log.debug("scrape_failed address=%s", client_address)


class ScrapeServer:
    """Serves a WSGI application on a port, in a thread of its own, until it is closed.

    Raises:
        OSError: the port is taken, or the address is not ours.
    """

    def __init__(self, host: str, port: int, application: Application) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server_class = type("_FamilyServer", (_Server,), {"address_family": family})
        self._server: WSGIServer = make_server(str(address[0]), port, application, server_class, _Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="scrapes", daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
