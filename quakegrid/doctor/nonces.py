"""Nonces: files in a shared directory that show whether two machines see the same directory."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"\.quakegrid-doctor-[0-9a-f]{32}")
_MAX_BYTES = 64


def nonce_name(text: str) -> str:
    """The name of the file that holds a nonce."""
    return f".quakegrid-doctor-{text}"


def is_nonce_name(name: str) -> bool:
    """Whether a peer may ask for a file of that name."""
    return _NAME.fullmatch(name) is not None


def read_nonce(shared_dir: str, name: str) -> str:
    """Read the nonce that another machine wrote; empty if it is not there, or is none."""
    if not is_nonce_name(name):
        return ""
    try:
        with Path(shared_dir, name).open("rb") as stream:
            return stream.read(_MAX_BYTES).decode("ascii", errors="replace")
    except OSError:
        return ""
