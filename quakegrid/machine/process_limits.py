"""The umask and the limits of a process, as they travel from a command line to its driver.

Only the limits of open files and of core files, which people set for their programs. Other limits are the
agent's: the memory of workers has settings of its own.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path

MAX_UMASK = 0o777
# Above each limit that Linux knows.
MAX_LIMIT = (1 << 63) - 1
RESOURCES = {"open_files": resource.RLIMIT_NOFILE, "core_bytes": resource.RLIMIT_CORE}
_STATUS = Path("/proc/self/status")
_UNLIMITED = resource.RLIM_INFINITY

# Of a umask, the one number; of a limit, the soft and the hard one.
Limits = Mapping[str, Sequence[int]]


def own() -> dict[str, list[int]]:
    """Those of this process."""
    limits = {name: list(resource.getrlimit(number)) for name, number in RESOURCES.items()}
    # Not by `os.umask`, which would change it for other threads meanwhile.
    for line in _STATUS.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("Umask:"):
            limits["umask"] = [int(line.split()[1], 8)]
    return limits


def take(limits: Limits) -> None:
    """Give this process the umask and the limits of another one, as far as its own hard limits allow.

    Args:
        limits: as `own` tells them, and `is_valid` has checked; what is missing stays.
    """
    if "umask" in limits:
        os.umask(limits["umask"][0])
    for name, number in RESOURCES.items():
        if name in limits:
            _soft, most = resource.getrlimit(number)
            soft, hard = (_least(wanted, most) for wanted in limits[name])
            resource.setrlimit(number, (_least(soft, hard), hard))


def is_valid(limits: object) -> bool:
    """Whether a value that came from elsewhere is such limits."""
    if not isinstance(limits, dict) or not limits.keys() <= {"umask", *RESOURCES}:
        return False
    for name, values in limits.items():
        count, most = (1, MAX_UMASK) if name == "umask" else (2, MAX_LIMIT)
        least = 0 if name == "umask" else _UNLIMITED
        if not isinstance(values, list) or len(values) != count:
            return False
        if not all(type(value) is int and least <= value <= most for value in values):
            return False
    return True


def _least(one: int, other: int) -> int:
    """The lower one of two limits."""
    if one == _UNLIMITED:
        return other
    return one if other == _UNLIMITED else min(one, other)
