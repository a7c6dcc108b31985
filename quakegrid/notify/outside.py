"""Addresses that people send: only those outside, so that nobody reaches the master's own network through it.

The addresses of a host are looked up when the connection is made, and the connection goes to one that was
judged. No proxy is asked, which would look them up again.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import urllib.request
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

from quakegrid import errors

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# Through it addresses of version 6 stand for some of version 4 (RFC 6052).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_outside(text: str) -> bool:
    """Whether an address is one of the internet, and of no host or network of one's own."""
    found = ipaddress.ip_address(text.partition("%")[0])
    inner = _inner(found)
    return inner.is_global and not inner.is_multicast


def _inner(found: Address) -> Address:
    """The address of version 4 that one of version 6 stands for; else the address."""
    if isinstance(found, ipaddress.IPv4Address):
        return found
    if found in _NAT64:
        return ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return found.ipv4_mapped or found.sixtofour or found


def allows(url: str, hosts: Collection[str]) -> bool:
    """Whether a URL names one of these hosts, wherever that is."""
    return (urlsplit(url).hostname or "").lower() in hosts


def opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Opens URLs of hosts outside; others raise NotAllowedError, in words."""
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), _Plain, _Tls, *handlers)


def _connect(
    address: tuple[str, int], timeout: float | None = None, _source: Any = None, **_others: Any
) -> socket.socket:
    """As `socket.create_connection`, to addresses outside.

    Raises:
        NotAllowedError: the host has none.
        OSError: none answers.
    """
    host, port = address
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    outside = [each for each in found if is_outside(str(each[4][0]))]
    if not outside:
        raise errors.NotAllowedError(
            f"{host} is a host of this network; an administrator allows it by its name in [notify] hosts "
            "of openquake.cfg"
        )
    failure: OSError | None = None
    for family, kind, protocol, _name, place in outside:
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(timeout)
            made.connect(place)
        except OSError as exc:
            made.close()
            failure = exc
        else:
            return made
    assert failure is not None
    raise failure


class _PlainConnection(http.client.HTTPConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = _connect


class _TlsConnection(http.client.HTTPSConnection):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_connection = _connect


class _Plain(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_PlainConnection, req)


class _Tls(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_TlsConnection, req)
