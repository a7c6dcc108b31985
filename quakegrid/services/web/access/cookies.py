"""The cookie of a session, as browsers and QGIS send it back. Pure."""

from __future__ import annotations

from collections.abc import Mapping

# The engine's own server, which is Django's, calls it so.
NAME = "sessionid"


def read(headers: Mapping[str, str]) -> str:
    """The token in the cookie of a request; empty without one.

    If there are several, somebody else may have set the others: none counts.
    """
    found = {
        value.strip()
        for name, _, value in (part.partition("=") for part in headers.get("cookie", "").split(";"))
        if name.strip() == NAME
    }
    return found.pop() if len(found) == 1 else ""


def begin(token: str, *, is_secure: bool) -> str:
    """The value of `Set-Cookie` with which a session begins; the browser forgets it when it ends."""
    return f"{NAME}={token}; HttpOnly; Path=/; SameSite=Lax{'; Secure' if is_secure else ''}"


def end(*, is_secure: bool) -> str:
    """The value of `Set-Cookie` by which a browser forgets it."""
    return f"{NAME}=; HttpOnly; Path=/; SameSite=Lax; Max-Age=0{'; Secure' if is_secure else ''}"
