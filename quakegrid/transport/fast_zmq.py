"""ZeroMQ with encryption at full speed: all our code imports `zmq` from this module.

The libsodium in pyzmq's wheels is compiled without optimisation: CURVE takes a core 10 ms a MiB with it.
PyNaCl's wheels have the same library compiled with optimisation, nearly ten times as fast. It is loaded
before pyzmq and for the whole process, so its functions are found before those of pyzmq's own copy. Where it
cannot be loaded, everything works, slowly. See docs/decisions/0012-fast-encryption.md.
"""

from __future__ import annotations

import ctypes
import sys

from quakegrid.transport import libsodium


def _load_first() -> bool:
    """Load the library before pyzmq's own copy; False if there is none, or zmq was imported before."""
    path = libsodium.find_library()
    if path is None or "zmq" in sys.modules:
        return False
    try:
        ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


IS_FAST = _load_first()

import zmq  # noqa: E402  only now
from zmq.backend import Socket as SocketBase  # noqa: E402

__all__ = ["IS_FAST", "SocketBase", "zmq"]
