"""Prints the unshared memory, in bytes, of a worker of the plain engine's pool before its first task.

The pool is the engine's own. Its workers import the main script, and that starts as the `oq` script
does; then they import the calculator, which the engine makes them do when the first task arrives.
"""

from __future__ import annotations

import psutil
from openquake.commands.__main__ import oq  # noqa: F401 (what the `oq` script imports)


def unshared_bytes() -> int:
    """Import what a task of a classical calculation needs, and measure the process."""
    import openquake.calculators.classical  # noqa: F401

    return int(psutil.Process().memory_full_info().uss)


def main() -> None:
    """Start the engine's process pool and ask one of its workers."""
    from openquake.baselib.parallel import Starmap

    Starmap.init("processpool")
    try:
        print(Starmap.pool.apply(unshared_bytes))
    finally:
        Starmap.shutdown()


if __name__ == "__main__":
    main()
