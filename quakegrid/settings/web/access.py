"""Who may use the web service, from where and by which names: `[web]` of `openquake.cfg`. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeVar

from quakegrid.settings.hosts import is_loopback

T = TypeVar("T")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9a-f:]+\]", re.ASCII)
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,60}", re.ASCII)
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)
_ACCOUNT = re.compile(r"[A-Za-z_][A-Za-z0-9._-]{0,255}", re.ASCII)


class WebMode(StrEnum):
    """Who may do what, by the names of the engine's own server."""

    # Who is let in sees everything.
    PUBLIC = "PUBLIC"
    # People log in, and see their own calculations and shared ones.
    RESTRICTED = "RESTRICTED"
    # Everybody sees everything, and nobody changes anything.
    READ_ONLY = "READ_ONLY"


@dataclass(frozen=True, slots=True)
class WebProxy:
    """A proxy that is believed.

    Args:
        address: from where it asks.
        account: that runs it; on this machine only its connections are the proxy's. Empty elsewhere.
    """

    address: str
    account: str = ""


@dataclass(frozen=True, slots=True)
class WebAccess:
    """Who may use the web service.

    Args:
        mode: None: by the address on which the service listens.
        hosts: more names by which people reach it.
        origins: sites whose pages may ask it, with tokens.
        certificate: file of the site's certificate, PEM, with those that lead to its authority.
        private_key: file of its key.
        proxies: in front of the service, which are believed from where somebody asks.
        proxy_user_header: in which they say who asks; empty if they do not.
    """

    mode: WebMode | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    certificate: str = ""
    private_key: str = ""
    proxies: tuple[WebProxy, ...] = ()
    proxy_user_header: str = ""

    def mode_at(self, listen: str) -> WebMode:
        """The mode of a service that listens on an address."""
        if self.mode is not None:
            return self.mode
        return WebMode.PUBLIC if is_loopback(listen) else WebMode.RESTRICTED

    def is_tls_at(self, listen: str) -> bool:
        """Whether a service that listens on an address speaks TLS."""
        return bool(self.certificate) or not (is_loopback(listen) or self.proxies)

    @property
    def fault(self) -> str:
        """What does not fit together, and what to do; empty if all fits."""
        if bool(self.certificate) != bool(self.private_key):
            return "[web] certificate and private_key belong together: give both, or none of them"
        if self.proxy_user_header and not self.proxies:
            return (
                "[web] proxy_user_header says that a proxy tells who asks: name the addresses of the "
                "proxies in [web] proxies, or take it out"
            )
        return ""


class ParseWebSetting(Protocol):
    """Reads one value and converts it."""

    def __call__(self, section: str, key: str, default: T, convert: Callable[[str], T], allowed: str) -> T:
        """The value or the default. The error for a wrong value names what is `allowed`."""


def read_web_access(parse: ParseWebSetting) -> WebAccess:
    """Read `[web]`, as far as it says who may look."""
    none: tuple[str, ...] = ()
    return WebAccess(
        mode=_mode(parse("web", "mode", "", _mode_name, "PUBLIC, RESTRICTED or READ_ONLY")),
        hosts=parse("web", "hosts", none, _each(_host), "names of this service, such as quakes.example.org"),
        origins=parse(
            "web", "origins", none, _each(_origin), "addresses of sites, such as https://maps.example.org"
        ),
        certificate=parse("web", "certificate", "", _path, "the whole path of a file"),
        private_key=parse("web", "private_key", "", _path, "the whole path of a file"),
        proxies=tuple(
            _proxy(text)
            for text in parse(
                "web",
                "proxies",
                none,
                _each(_proxy_text),
                "addresses such as 10.0.0.5; on this machine with the account, as in www-data@127.0.0.1",
            )
        ),
        proxy_user_header=parse(
            "web", "proxy_user_header", "", _header, "the name of a header, such as X-Remote-User"
        ),
    )


def _mode(text: str) -> WebMode | None:
    return WebMode(text) if text else None


def _mode_name(text: str) -> str:
    return WebMode(text.upper()).value


def _each(convert: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    return lambda text: tuple(convert(part) for part in text.replace(",", " ").split())


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(text)
    return text


def _host(text: str) -> str:
    return _matching(_HOST, text).lower()


def _origin(text: str) -> str:
    return _matching(_ORIGIN, text.lower().rstrip("/"))


def _header(text: str) -> str:
    return _matching(_HEADER, text).lower()


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError(text)
    return text


def _proxy_text(text: str) -> str:
    proxy = _proxy(text)
    if is_loopback(proxy.address) != bool(proxy.account):
        raise ValueError(text)
    return text


def _proxy(text: str) -> WebProxy:
    account, _, address = text.rpartition("@")
    if account:
        _matching(_ACCOUNT, account)
    return WebProxy(str(ipaddress.ip_address(address)), account)
