"""Settings of gRPC in the environment of our own processes; gRPC reads them when it is imported.

Entry points (services, `quakegrid`, `agentctl`) call `tell` before they import anything else; processes that
they start inherit the settings. Programs that use QuakeGrid as a library keep their environment as it is.

gRPC has two ways to wait for sockets. The newer one ("event engine") wakes threads of a pool. In the older
one the thread that waits for an answer polls, which saves two thread switches for each message. See
docs/decisions/0011-calls-without-threads.md. Does not import gRPC.
"""

from __future__ import annotations

import importlib.util
from collections.abc import MutableMapping
from pathlib import Path

# Tested versions that have the older way. Another version would print a line about an unknown name, so it is
# left to wait in its own way.
VERSIONS_WITH_POLLERS = ("1.85.",)
_POLLERS = {
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
    # Between two attempts of a call no thread waits, so none polls. By default a connection to a service that
    # was started again would wait 5 s for each of its steps, and run out of time.
    "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "100",
}


def tell(environ: MutableMapping[str, str]) -> None:
    """Set the variables that are not set already; must be called before gRPC is imported."""
    # It prints lines for refused handshakes, with words that a stranger without the key chooses: enough
    # of them fill a disk. Our own errors say once what failed.
    environ.setdefault("GRPC_VERBOSITY", "NONE")
    if "GRPC_EXPERIMENTS" not in environ and _has_pollers():
        for name, value in _POLLERS.items():
            environ.setdefault(name, value)


def _has_pollers() -> bool:
    """Whether the older way of the installed gRPC is known to work."""
    spec = importlib.util.find_spec("grpc")
    if spec is None or spec.origin is None:
        return False
    try:
        metadata = Path(spec.origin).with_name("_grpcio_metadata.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(f'"{version}' in metadata for version in VERSIONS_WITH_POLLERS)
