"""What must be equal on the nodes of a session, and how a node differs.

Pure. A fingerprint gives values by name: versions, architecture, settings. A session names the values that
must be equal; nothing else is compared. `environment` gives the values of this machine.
"""

from __future__ import annotations

from collections.abc import Mapping

Fingerprint = Mapping[str, str]

NONE = "none"
CLOCK = "clock"
CLOCK_FITS = "as the master's"
# Far more than delays of a network or a busy machine; below it log lines of several nodes are in order.
MAX_CLOCK_OFFSET_S = 60.0


def differences(driver: Fingerprint, node: Fingerprint) -> list[str]:
    """What a driver asks for and a node has otherwise, such as "numpy 1.26.4 there, 2.2.6 here".

    Names in order, those of settings last; a node that has not loaded the engine has no such settings yet.
    """
    found = []
    for name in sorted(driver, key=lambda name: (_is_setting(name), name)):
        here = driver[name]
        there = node.get(name, here if _is_setting(name) else NONE)
        if there != here:
            found.append(f"{name} {there} there, {here} here")
    return found


def _is_setting(name: str) -> bool:
    return name.startswith("[")


def describe_clock(*, node_s: float, asked_s: float, answered_s: float) -> str:
    """How far a node's clock differs from the master's, in words, as exactly as the times allow.

    Args:
        node_s: the node's clock when it answered, seconds since the epoch.
        asked_s: the master's clock before it asked.
        answered_s: the master's clock when the answer came.
    """
    offset_s = node_s - min(max(node_s, asked_s), answered_s)
    if abs(offset_s) <= MAX_CLOCK_OFFSET_S:
        return CLOCK_FITS
    return f"{abs(offset_s):.0f} s {'ahead' if offset_s > 0 else 'behind'}"
