"""A gRPC channel whose certificate never runs out: notebooks and long calculations outlive one certificate.

A certificate is checked only when a connection is made, so a connection outlives it. After a break, a channel
whose certificate is older than 30 days could never connect again. So the first call after half of that time
gets a new channel with a new certificate. Calls that run stay on their channel. The certificate
of a person cannot be renewed here. Does not depend on a service.
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
        proof: the authkey; a certificate, which is used as long as it counts; or one that somebody renews.
        options: of gRPC.
        now: the clock for the certificates.
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
        # Older channels stay open for the calls that they carry; there are at most two more a month.
        self._channels: list[grpc.Channel] = []
        self._is_closed = False
        self._renew()

    def current(self) -> grpc.Channel:
        """The channel for the next call."""
        if self._is_due():
            with self._lock:
                if self._is_due() and not self._is_closed:
                    self._renew()
        return self._channels[-1]

    def make(self, make: Callable[[grpc.Channel], Any]) -> tuple[grpc.Channel, Any]:
        """The result of `make` for the newest channel, and this channel.

        Raises:
            ValueError: this channel is closed; gRPC would crash.
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
        """Call `callback` with the connectivity of the current channel, whenever it changes."""
        self.current().subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Any) -> None:
        """Stop calling `callback`."""
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

    def _is_due(self) -> bool:
        return self._identity.is_replaced(self._proof, self._now())

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
