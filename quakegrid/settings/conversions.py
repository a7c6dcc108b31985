"""Texts of `openquake.cfg` as values; each function raises ValueError for one that is not allowed. Pure."""

from __future__ import annotations

import configparser
import datetime
import math
import re
from urllib.parse import urlsplit

from quakegrid.settings.hosts import HostCores

MAX_RETENTION_DAYS = 36_500
# The smallest limit of the database: its tables need some room even without logs.
MIN_RETENTION_MB = 10
MAX_RETENTION_MB = 1 << 32
MAX_PORT = 65535
MAX_ADDRESS_CHARS = 4096
# A scheme, perhaps a name and a password, a host and perhaps its port, and what follows.
_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#\s]*@)?(?P<host>[A-Za-z0-9.-]*(?::\d+)?)(?P<rest>(?:[/?#\s].*)?)",
    re.DOTALL,
)
PLACEMENTS = ("spread", "pack")
RESUMES = ("auto", "ask", "never")


def whole_path(text: str) -> str:
    """A path that means the same file in each working directory."""
    if not text.startswith(("/", "~")):  # it would be another file in each working directory
        raise ValueError(text)
    return text


def instant_s(text: str) -> float:
    """A time with its zone, in seconds since 1970."""
    found = datetime.datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found.timestamp()


def port(text: str) -> int:
    """A TCP port."""
    port = int(text)
    if not 1 <= port <= MAX_PORT:
        raise ValueError(text)
    return port


def port_or_none(text: str) -> int:
    """A TCP port; 0 for none."""
    return int(text) and port(text)


def port_range(text: str) -> tuple[int, ...]:
    """TCP ports, such as 1912-1920."""
    first, _, last = text.partition("-")
    ports = tuple(range(port(first), port(last or first) + 1))
    if not ports:
        raise ValueError(text)
    return ports


def host_cores(text: str) -> tuple[HostCores, ...]:
    """Nodes and their numbers of cores; `none` where all nodes join."""
    nodes = []
    if text == "none":  # all nodes join
        return ()
    for item in text.split(","):
        host, cores = item.split()
        if int(cores) == 0 or int(cores) < -1:
            raise ValueError(text)
        nodes.append(HostCores(host, int(cores)))
    return tuple(nodes)


def preload(text: str) -> tuple[str, ...]:
    """Names of modules; `none` for no module."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ("none",):
        return ()
    if "none" in names or not all(part.isidentifier() for name in names for part in name.split(".")):
        raise ValueError(text)
    return names


def yes_or_no(text: str) -> bool:
    """`yes` or `no`, in the words that `configparser` knows."""
    try:
        return configparser.ConfigParser.BOOLEAN_STATES[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def byte_count(text: str) -> int:
    """Bytes, with K, M, G or T for units of 1024."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
    unit = units.get(text[-1].upper(), 1)
    number = float(text[:-1] if unit > 1 else text)
    if number < 0:
        raise ValueError(text)
    return int(number * unit)


def count(text: str) -> int:
    """A number of 0 or more; also yes and no, as the engine has them."""
    flags = {"yes": 1, "true": 1, "no": 0, "false": 0}
    count = flags[text.lower()] if text.lower() in flags else int(text)
    if count < 0:
        raise ValueError(text)
    return count


def days(text: str) -> int:
    """Days to keep something; 0 for ever."""
    days = int(text)
    if not 0 <= days <= MAX_RETENTION_DAYS:
        raise ValueError(text)
    return days


def megabytes(text: str) -> int:
    """Megabytes as bytes; 0 for no limit."""
    megabytes = int(text)
    if megabytes != 0 and not MIN_RETENTION_MB <= megabytes <= MAX_RETENTION_MB:
        raise ValueError(text)
    return megabytes << 20


def some_bytes(text: str) -> int:
    """Bytes, with K, M, G or T for units of 1024; more than 0."""
    found = byte_count(text)
    if found == 0:
        raise ValueError(text)
    return found


def positive(text: str) -> int:
    """A number of 1 or more."""
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def placement(text: str) -> str:
    """How workers are placed: they spread over all nodes, or are packed into few."""
    if text not in PLACEMENTS:
        raise ValueError(text)
    return text


def resume(text: str) -> str:
    """What becomes of a calculation whose driver has died."""
    if text not in RESUMES:
        raise ValueError(text)
    return text


def timeout(text: str) -> float:
    """Seconds; 0 for no limit."""
    if not 0 <= float(text) < math.inf:
        raise ValueError(text)
    return float(text)


def seconds(text: str) -> float:
    """Seconds, more than 0."""
    if not float(text) > 0:
        raise ValueError(text)
    return float(text)


class HiddenError(ValueError):
    """A value that may hold a secret is not allowed; `str()` is what may be shown of it."""


def is_web_address(text: str) -> bool:
    """Whether a text is a URL of HTTP with a host, which a program can ask as it stands."""
    if len(text) > MAX_ADDRESS_CHARS or any(char.isspace() or not char.isprintable() for char in text):
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def web_address(text: str) -> str:
    """A URL of HTTP with a host; empty for none.

    Raises:
        HiddenError: it is none. It may hold a password, or a path that only its owner knows.
    """
    if text and not is_web_address(text):
        raise HiddenError(_without_secrets(text))
    return text


def _without_secrets(text: str) -> str:
    """Scheme and host of what was meant as a URL, as far as it can be told from a secret."""
    found = _URL.fullmatch(text)
    if found is None or "@" in found["rest"]:  # a password may hold a slash
        return f"{found['scheme']}://…" if found else "…"
    return f"{found['scheme']}://{found['host']}{'/…' if found['rest'] else ''}"


def host_names(text: str) -> tuple[str, ...]:
    """Names or addresses of hosts, as they stand in URLs."""
    names = tuple(part.strip("[]").lower() for part in text.replace(",", " ").split())
    if any(urlsplit(f"//[{name}]" if ":" in name else f"//{name}").hostname != name for name in names):
        raise ValueError(text)
    return names
