"""A dbserver in the test's own process: started in a tenth of a second, for all but signals and kills."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from quakegrid.services.dbserver.server import DbServer
from quakegrid.settings.config import Settings

STOP_TIMEOUT_S = 10.0


class LocalDbServer:
    """A dbserver that starts and stops as often as a test wants; `processes.Service` has the same methods."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.server: DbServer | None = None
        self._deaths: list[str] = []

    def start(self) -> None:
        """Serve on the address of the settings."""
        server = DbServer(
            self.settings.database, self.settings.keyring or "", lambda: self._deaths.append("a thread died")
        )
        self.server = server
        server.listen(self.settings.dbserver_host, self.settings.dbserver_port)

    def stop(self) -> int:
        """End it; 0 if all of it ended in time and none of its threads died."""
        assert self.server is not None
        server, self.server = self.server, None
        is_clean = server.close(STOP_TIMEOUT_S)
        return 0 if is_clean and not self._deaths else 1

    def close(self) -> None:
        """Leave nothing behind."""
        if self.server is not None:
            assert self.stop() == 0, self._deaths


@contextmanager
def serving(settings: Settings) -> Iterator[DbServer]:
    """A dbserver on the address of `settings`."""
    local = LocalDbServer(settings)
    try:
        local.start()
        assert local.server is not None
        yield local.server
    finally:
        local.close()
