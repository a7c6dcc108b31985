"""A dbserver in the test's own process: started in a tenth of a second, for all but signals and kills."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quakegrid.settings.config import Settings
from services.dbserver.server import DbServer


@contextmanager
def serving(settings: Settings) -> Iterator[DbServer]:
    """A dbserver on the address of `settings`."""
    deaths: list[str] = []
    server = DbServer(settings.database, settings.authkey, lambda: deaths.append("a thread died"))
    try:
        server.listen(settings.dbserver_host, settings.dbserver_port)
        yield server
    finally:
        is_clean = server.close(10)
    assert (is_clean, deaths) == (True, [])
