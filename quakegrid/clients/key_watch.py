"""Has a service notice that its authkey was changed, without a restart.

A thread looks at the files every few seconds, which costs a system call for each. Connections that are made
later take the new key.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from quakegrid.access.proofs import ClusterKeys
from quakegrid.errors import QuakeGridError
from quakegrid.settings import config
from quakegrid.settings.config import Settings
from quakegrid.transport import credentials

LOOK_S = 2.0
log = logging.getLogger("quakegrid.service")


def follow(settings: Settings, service: str, look_s: float = LOOK_S) -> None:
    """Keep the keys of a service's settings as the files say, as long as the process lives.

    Args:
        settings: of the service.
        service: as in "the broker".
        look_s: how often the files are looked at.
    """
    if settings.keyring is None:
        return
    watch = KeyWatch(settings, service)
    threading.Thread(target=watch.run, args=(look_s,), name="key watch", daemon=True).start()


class KeyWatch:
    """Looks whether the authkey was changed.

    Args:
        settings: of the service.
        service: as in "the broker".
        read: reads the settings anew.
    """

    def __init__(
        self, settings: Settings, service: str, read: Callable[[Path], Settings] = config.load_settings
    ) -> None:
        assert settings.keyring is not None, "the service has a key"
        self._settings, self._service, self._read = settings, service, read
        self._keyring = settings.keyring
        # Not as the files are now: they may have changed since the settings were read.
        self._seen: list[tuple[int, int, int] | None] | None = None
        self._trouble = ""

    def run(self, look_s: float) -> None:
        """Look for ever."""
        pause = threading.Event()
        while True:
            self.look()
            pause.wait(look_s)

    def look(self) -> None:
        """Read the files again if one is another one, and take their keys if a service may have them."""
        try:
            seen = [_stamp(path) for path in config.config_paths(self._settings.state_dir)]
            if seen == self._seen:
                return
            found = self._read(self._settings.state_dir)
            config.check_authkey(found, self._service)
        except (QuakeGridError, OSError) as exc:
            if str(exc) != self._trouble:  # each reason once
                log.warning("authkey_not_read_again reason=%s", exc)
            self._trouble = str(exc)
            return
        self._seen, self._trouble = seen, ""
        assert found.keyring is not None, "it was checked"
        self._take(found.keyring.keys)

    def _take(self, keys: ClusterKeys) -> None:
        if keys == self._keyring.keys:
            return
        before, self._keyring.keys = self._keyring.keys, keys
        if keys.active != before.active:
            log.info("authkey_changed fingerprint=%s", credentials.fingerprint(keys.active))
        else:
            log.info("old_authkey_changed until_s=%.0f", keys.old_until_s if keys.old else 0.0)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced; None if it is not there."""
    try:
        found = os.stat(path)  # noqa: PTH116  every few seconds, in every service
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
