"""Finds PyNaCl's libsodium, the fast one; `fast_zmq` loads it. Loads nothing itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGE = "nacl"


def find_library() -> Path | None:
    """The path of PyNaCl's libsodium; None if PyNaCl is not installed, or uses the system's library."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = spec.submodule_search_locations or [] if spec else []
    return next((path for folder in folders for path in sorted(Path(folder).glob("_sodium*.so"))), None)
