"""The cookie of a session, as browsers and QGIS send it back. Pure.

Browsers send a cookie to all ports of a host. Where there is TLS the name begins with `__Host-`: browsers
take such a cookie from this very host over TLS only, so neither a site next to it nor something that speaks
plain HTTP can plant one. Another service on the same host still gets it, if people look at that, too.
"""

from __future__ import annotations

from collections.abc import Mapping

# The engine's own server, which is Django's, calls it so.
NAME = "sessionid"
SECURE_NAME = f"__Host-{NAME}"


def name_of(*, is_secure: bool) -> str:
    """How the cookie is called."""
    return SECURE_NAME if is_secure else NAME


def read(headers: Mapping[str, str], *, is_secure: bool) -> str:
    """The token in the cookie of a request; empty without one.

    If there are several, somebody else may have set the others: none counts.

    Args:
        headers: of the request.
        is_secure: whether it came over TLS.
    """
    wanted = name_of(is_secure=is_secure)
    found = {
        value.strip()
        for name, _, value in (part.partition("=") for part in headers.get("cookie", "").split(";"))
        if name.strip() == wanted
    }
    return found.pop() if len(found) == 1 else ""


def begin(token: str, *, is_secure: bool) -> str:
    """The value of `Set-Cookie` with which a session begins; the browser forgets it when it ends."""
    return f"{name_of(is_secure=is_secure)}={token}; {_how(is_secure=is_secure)}"


def end(*, is_secure: bool) -> str:
    """The value of `Set-Cookie` by which a browser forgets it."""
    return f"{name_of(is_secure=is_secure)}=; Max-Age=0; {_how(is_secure=is_secure)}"


def _how(*, is_secure: bool) -> str:
    return f"HttpOnly; Path=/; SameSite=Lax{'; Secure' if is_secure else ''}"
