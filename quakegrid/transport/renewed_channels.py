"""A gRPC channel whose certificate never runs out: notebooks and long calculations outlive one certificate.

A certificate counts when a connection is made, so a connection goes on as long as it holds; after a break a
certificate of 30 days would be refused for ever. The first call after half of that time gets a new channel
with a new certificate. Calls that run stay on their channel. A certificate that a person was given cannot be
renewed here, and ends when it ends. Does not depend on a service.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Sequence
from typing import Any, Self

import grpc

from quakegrid.access.proofs import Proof
from quakegrid.transport import credentials as security


def utc_now() -> datetime.datetime:
    """The time of day, aware."""
    return datetime.datetime.now(datetime.UTC)


class RenewedChannel(grpc.Channel):
    """A channel to a service of our cluster; may be used by several threads.

    Args:
        address: `host:port`.
        proof: the authkey, or a certificate, which is used as long as it counts.
        options: of gRPC.
        now: the clock that certificates are made by.
    """

    def __init__(
        self,
        address: str,
        proof: Proof,
        options: Sequence[tuple[str, Any]],
        now: Callable[[], datetime.datetime] = utc_now,
    ) -> None:
        self._address, self._proof, self._options, self._now = address, proof, options, now
        self._lock = threading.Lock()
        # Older ones stay open for the calls that they carry: at most two more a month.
        self._channels: list[grpc.Channel] = []
        self._is_closed = False
        self._renew()

    def current(self) -> grpc.Channel:
        """The channel for the next call."""
        if self._identity.is_due(self._now()):
            with self._lock:
                if self._identity.is_due(self._now()) and not self._is_closed:
                    self._renew()
        return self._channels[-1]

    def make(self, make: Callable[[grpc.Channel], Any]) -> tuple[grpc.Channel, Any]:
        """The result of `make` for the newest channel, and this channel.

        Raises:
            ValueError: we are closed; gRPC would crash.
        """
        with self._lock:
            if self._is_closed:
                raise ValueError("the channel is closed")
            return self._channels[-1], make(self._channels[-1])

    def close(self) -> None:
        """Close the connection, and end what runs on it."""
        with self._lock:
            self._is_closed = True
            for channel in self._channels:
                channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def subscribe(self, callback: Any, try_to_connect: bool | None = False) -> None:
        """Tell `callback` of the connectivity of the channel that there is now."""
        self.current().subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        """Tell it no more."""
        for channel in self._channels:
            channel.unsubscribe(callback)

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A method with one request and one response."""
        return _Method(self, lambda channel: channel.unary_unary(*args, **kwargs))

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A method with one request and many responses."""
        return _Method(self, lambda channel: channel.unary_stream(*args, **kwargs))

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        """A method with many requests and one response."""
        return _Method(self, lambda channel: channel.stream_unary(*args, **kwargs))

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        """A method with many requests and many responses."""
        return _Method(self, lambda channel: channel.stream_stream(*args, **kwargs))

    def _renew(self) -> None:
        self._identity = security.identity_of(self._proof, self._now())
        credentials = security.credentials_of(self._identity)
        self._channels.append(grpc.secure_channel(self._address, credentials, options=self._options))


class _Method:
    """A method of a stub, on whatever channel is the current one."""

    def __init__(self, owner: RenewedChannel, make: Callable[[grpc.Channel], Any]) -> None:
        self._owner, self._make = owner, make
        self._made = owner.make(make)

    def _current(self) -> Any:
        channel = self._owner.current()
        made_on, method = self._made
        if made_on is not channel:
            self._made = _, method = self._owner.make(self._make)
        return method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._current()(*args, **kwargs)

    def with_call(self, *args: Any, **kwargs: Any) -> Any:
        """The response, and the call itself."""
        return self._current().with_call(*args, **kwargs)

    def future(self, *args: Any, **kwargs: Any) -> Any:
        """The call, whose response may be waited for."""
        return self._current().future(*args, **kwargs)
