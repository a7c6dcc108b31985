"""What gRPC is told by the environment, which it reads when it is imported: for processes of our own.

Entry points (services, `quakegrid`, `agentctl`) call `tell` before they import anything else; what they start
inherits it. Programs that use QuakeGrid as a library keep their environment as it is.

Of its two ways to wait for sockets the newer one ("event engine") wakes threads of a pool; in the older one
whoever waits for an answer polls: two changes of threads less a message. See docs/decisions/0011. Knows
variables; imports no gRPC.
"""

from __future__ import annotations

import importlib.util
from collections.abc import MutableMapping
from pathlib import Path

# Those that have the older way and that we have run; another one would print a line about a name that it
# does not know, and waits in its own way.
VERSIONS_WITH_POLLERS = ("1.85.",)
_POLLERS = {
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
    # Between two tries of a call nobody waits, so nobody polls: by default a connection to a service that was
    # started again would wait 5 s for each of its steps, and run out of time.
    "GRPC_CLIENT_CHANNEL_BACKUP_POLL_INTERVAL_MS": "100",
}


def tell(environ: MutableMapping[str, str]) -> None:
    """Set what is not set already; before gRPC is imported."""
    # It prints lines for refused handshakes, with words that a stranger without the key chooses: enough
    # of them fill a disk. Our own errors say once what failed.
    environ.setdefault("GRPC_VERBOSITY", "NONE")
    if "GRPC_EXPERIMENTS" not in environ and _has_pollers():
        for name, value in _POLLERS.items():
            environ.setdefault(name, value)


def _has_pollers() -> bool:
    """Whether the installed gRPC is one whose older way we know."""
    spec = importlib.util.find_spec("grpc")
    if spec is None or spec.origin is None:
        return False
    try:
        metadata = Path(spec.origin).with_name("_grpcio_metadata.py").read_text(encoding="utf-8")
    except OSError:
        return False
    return any(f'"{version}' in metadata for version in VERSIONS_WITH_POLLERS)
