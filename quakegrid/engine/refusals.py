"""Commands of `oq` that would harm a cluster, and what is said instead of running them."""

from __future__ import annotations

from collections.abc import Sequence

REFUSED = {
    "webui": "`oq webui` would start the engine's own web server beside this cluster: it would not know its "
    "calculations and could mark those that run as failed. QuakeGrid has no web pages yet; "
    "`quakegrid jobs list` and `quakegrid jobs watch` show what there is",
    "dbserver": "the dbserver of this cluster is a service of QuakeGrid, which `oq dbserver` can neither "
    "start nor stop; `quakegrid status` shows how it is",
}
HARMLESS = frozenset({"status", "-h", "--help"})


def refusal(argv: Sequence[str]) -> str:
    """Why a command of `oq` is not run here; empty if it is.

    Args:
        argv: as after `oq`.
    """
    return REFUSED.get(argv[0], "") if argv and not HARMLESS & set(argv[1:]) else ""
