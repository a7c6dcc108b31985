"""Connections of HTTP that wait for nobody without a limit.

uvicorn waits for ever for the head of a request, and for a reader who takes nothing. Here both have a limit:
beyond it the connection is closed, whatever it was for.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

# For the first line and the headers, from the first byte; a new connection may be silent for so long.
HEAD_S = 20.0
# A reader must take what the kernel can hold for it, a few megabytes at most, in this time.
STALL_S = 300.0


class PatientProtocol(H11Protocol):
    """uvicorn's connection, with limits to its patience."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._head = self.loop.call_later(HEAD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the time that they may take runs until a head is whole."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end_head()
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_S, self.transport.abort)

    def pause_writing(self) -> None:
        """Begin to wait for a reader who takes less than there is."""
        super().pause_writing()
        self._stall = self._stall or self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the reader has taken what there was."""
        super().resume_writing()
        self._end_stall()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        super().connection_lost(exc)
        self._end_head()
        self._end_stall()

    def _end_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _end_stall(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
