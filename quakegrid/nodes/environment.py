"""The environment of this process as a fingerprint.

Reads package metadata only; neither the engine nor numpy is imported here.
"""

from __future__ import annotations

import platform
import sys
from importlib import metadata

from quakegrid import __version__
from quakegrid.nodes import engine_version
from quakegrid.nodes.fingerprint import CLOCK, CLOCK_FITS, NONE, Fingerprint
from quakegrid.transport import lane_sockets

PYTHON = "Python"
PROTOCOL = "lane protocol"
CLOUDPICKLE = "cloudpickle"
# What changes the numbers of a calculation.
ENGINE_DISTRIBUTIONS = (engine_version.DISTRIBUTION, "numpy", "numba")


def version_of(distribution: str) -> str:
    """The version of an installed distribution, or "none"."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return NONE


def of_node() -> dict[str, str]:
    """All values that sessions may ask for, as this process finds them.

    Of Python's version only the series is compared: its bug fix releases read each other's pickles and
    compute alike.
    """
    return {
        PYTHON: f"{sys.version_info.major}.{sys.version_info.minor}",
        "CPU architecture": platform.machine(),
        "QuakeGrid": __version__,
        PROTOCOL: str(lane_sockets.PROTOCOL_VERSION),
        CLOUDPICKLE: version_of(CLOUDPICKLE),
    } | {name: version_of(name) for name in ENGINE_DISTRIBUTIONS}


def for_calculations(node: Fingerprint) -> dict[str, str]:
    """What a driver of the engine asks of nodes, from the fingerprint of its own node."""
    return {name: value for name, value in node.items() if name != CLOUDPICKLE} | {CLOCK: CLOCK_FITS}


def for_functions() -> dict[str, str]:
    """What an executor asks of nodes: that they can read what it sends."""
    node = of_node()
    return {name: node[name] for name in (PYTHON, PROTOCOL, CLOUDPICKLE)}
