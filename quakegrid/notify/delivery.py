"""Tells one end of a job: runs a command, or makes an HTTP POST; says in words what went wrong.

A command that hangs is killed with its children. A POST is tried again if the other side may be there later.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from quakegrid import __version__, errors
from quakegrid.notify import outside, targets

COMMAND_TIMEOUT_S = 60.0
POST_TIMEOUT_S = 10.0
# Between the tries of a POST.
PAUSES_S = (1.0, 5.0)
MAX_OUTPUT_CHARS = 500


def deliver(target: str, document: bytes, environ: Mapping[str, str], *, is_guarded: bool = False) -> str:
    """Tell an end; returns what went wrong, empty if nothing did.

    Args:
        target: a command or a URL, checked.
        document: JSON, for the command's stdin or the body of the POST.
        environ: added to the command's environment.
        is_guarded: whether a URL has to be one of a host outside.
    """
    failure = (
        post(target, document, is_guarded=is_guarded)
        if targets.is_url(target)
        else run(target, document, environ)
    )
    return f"not notified by {targets.described(target)}: {failure}" if failure else ""


def deliver_url(url: str, document: bytes, *, is_guarded: bool) -> str:
    """Tell an end to somebody whom a person has named, who may name no command; returns what went wrong.

    Args:
        url: as the person gave it.
        document: JSON, the body of the POST.
        is_guarded: whether it has to be one of a host outside.
    """
    try:
        checked = targets.check(url)
    except errors.UsageError as exc:
        return f"not notified: {exc}"
    if not targets.is_url(checked):
        return f"not notified: {targets.described(url)} is no URL; give https://host/path"
    return deliver(checked, document, {}, is_guarded=is_guarded)


def run(
    command: str, document: bytes, environ: Mapping[str, str], timeout_s: float = COMMAND_TIMEOUT_S
) -> str:
    """Run a command by the shell; what went wrong."""
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environ},
            start_new_session=True,
        )
    except OSError as exc:
        return f"it could not be started ({exc.strerror})"
    with process:
        try:
            output, _ = process.communicate(document, timeout_s)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            return f"it did not end within {timeout_s:g} s and was killed"
    if process.returncode == 0:
        return ""
    words = output.decode(errors="replace").strip()[-MAX_OUTPUT_CHARS:]
    code = process.returncode
    ended = f"it was killed by signal {-code}" if code < 0 else f"it ended with exit code {code}"
    return f"{ended}: {words}" if words else ended


def post(
    url: str, document: bytes, pause: Callable[[float], Any] = time.sleep, *, is_guarded: bool = False
) -> str:
    """Make an HTTP POST; what went wrong at the last try."""
    for pause_s in (*PAUSES_S, None):
        failure, may_help = _try(url, document, is_guarded=is_guarded)
        if not failure or not may_help or pause_s is None:
            return failure
        pause(pause_s)
    raise AssertionError("the last try returns")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET, and might go to somewhere else than the person wanted."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, _url: str) -> NoReturn:
        raise urllib.error.HTTPError(req.full_url, code, msg, headers, fp)


def _try(url: str, document: bytes, *, is_guarded: bool) -> tuple[str, bool]:
    """One try: what went wrong, and whether another one may help."""
    headers = {"Content-Type": "application/json", "User-Agent": f"quakegrid/{__version__}"}
    url, login = targets.split_login(url)
    if login:
        headers["Authorization"] = login
    request = urllib.request.Request(url, document, headers, method="POST")  # noqa: S310 - checked: HTTP only
    make = outside.opener if is_guarded else urllib.request.build_opener
    try:
        with make(_NoRedirects()).open(request, timeout=POST_TIMEOUT_S):
            return "", False
    except errors.NotAllowedError as exc:
        return str(exc), False
    except urllib.error.HTTPError as exc:
        with exc:
            return f"HTTP {exc.code} {exc.reason}", exc.code >= 500 or exc.code == 429
    except urllib.error.URLError as exc:
        return str(exc.reason), True
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return str(exc) or type(exc).__name__, not isinstance(exc, ValueError)
