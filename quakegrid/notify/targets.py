"""Where ends of jobs are told: commands and URLs. Pure."""

from __future__ import annotations

import re
from base64 import b64encode
from urllib.parse import unquote_to_bytes, urlsplit

from quakegrid import errors
from quakegrid.settings import conversions

MAX_TARGETS = 16
MAX_CHARS = conversions.MAX_ADDRESS_CHARS
_SCHEME = re.compile(r"https?://", re.IGNORECASE)


def is_url(target: str) -> bool:
    """Whether an end is told by HTTP; otherwise the target is a command for the shell."""
    return _SCHEME.match(target) is not None


def check(target: str) -> str:
    """The target, if ends of jobs can be told there.

    Raises:
        UsageError: it is empty, too long, or no URL that can be reached.
    """
    if not target.strip() or len(target) > MAX_CHARS or "\0" in target:
        raise errors.UsageError(f"give a command or a URL of at most {MAX_CHARS} characters")
    if is_url(target) and not conversions.is_web_address(target):
        raise errors.UsageError(f"{described(target)} is no URL; give https://host/path")
    return target


def split_login(url: str) -> tuple[str, str]:
    """A URL without the name and password in it, and these as the header of HTTP that has them, or empty.

    Args:
        url: checked.
    """
    parts = urlsplit(url)
    login, mark, place = parts.netloc.rpartition("@")
    if not mark:
        return url, ""
    bare = parts._replace(netloc=place).geturl()
    if not login:
        return bare, ""
    pair = unquote_to_bytes(login if ":" in login else f"{login}:")  # the colon is no part of either
    return bare, f"Basic {b64encode(pair).decode()}"


def described(target: str) -> str:
    """A target for logs. Of a URL only its host: its path may be a secret, as those of chat services are."""
    if not is_url(target):
        return target if len(target) <= 80 else f"{target[:79]}…"
    try:
        host = urlsplit(target).hostname or "?"
    except ValueError:
        host = "?"
    return f"{target.partition(':')[0].lower()}://{host}/…"
