"""The token of one command or program: made when it is first needed, and ended with the command.

A person has a limited number of tokens, and scripts run many commands.
"""

from __future__ import annotations

import contextlib
import threading
from contextlib import closing
from typing import Protocol, Self

from quakegrid import errors
from quakegrid.clients import web_tokens
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.web_tokens import WebTokensClient
from quakegrid.settings.config import Settings

# How long a dbserver is waited for: where it has answered before, and where it may not be there.
RETRY_S, FIRST_RETRY_S = 300.0, 5.0


class TokenSource(Protocol):
    """Gives a token, to several threads."""

    def text(self) -> str:
        """The token."""

    def renew(self, ended: str) -> None:
        """Take note that a token does not count any more."""


class CommandToken:
    """A token of the credential's person. A context manager, which ends it.

    Args:
        settings: with a credential.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._text, self._id, self._has_made = "", "", False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def text(self) -> str:
        """The token.

        Raises:
            QuakeGridError: the dbserver makes none.
        """
        with self._lock:
            if not self._text:
                retry_s = RETRY_S if self._has_made else FIRST_RETRY_S
                with closing(DbClient(self._settings, retry_s=retry_s)) as database:
                    client = WebTokensClient(database)
                    self._text, made = client.create("command line", web_tokens.COMMAND_LIFE)
                self._id, self._has_made = made.id, True
            return self._text

    def renew(self, ended: str) -> None:
        """Take note that a token does not count any more."""
        with self._lock:
            if self._text == ended:
                self._text = self._id = ""

    def close(self) -> None:
        """End the token; one that cannot be ended now ends by itself, within the hour."""
        with self._lock:
            ended, self._text, self._id = self._id, "", ""
        if ended:
            with contextlib.suppress(errors.QuakeGridError), closing(DbClient(self._settings)) as database:
                WebTokensClient(database).revoke(ended)
