"""QuakeGrid: OpenQuake calculations on many machines, without ssh and without a scheduler."""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` itself takes as long to import as all the rest; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from quakegrid.sdk.cluster import Cluster, LocalCluster
    from quakegrid.sdk.executor import ClusterExecutor

__version__ = "1.0.0"

_PLACES = {
    "Cluster": "quakegrid.sdk.cluster",
    "LocalCluster": "quakegrid.sdk.cluster",
    "ClusterExecutor": "quakegrid.sdk.executor",
}
__all__ = ["Cluster", "ClusterExecutor", "LocalCluster", "__version__"]


def __getattr__(name: str) -> Any:
    """Load the interface for programs when it is asked for: command lines start without it."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """What interactive shells complete: what programs use, and no more."""
    return sorted(__all__)
