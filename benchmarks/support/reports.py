"""How every benchmark ends: its figures are printed as they are measured, and kept.

Everything else that a benchmark says goes to stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from benchmarks.support import records
from benchmarks.support.figures import Figure


def report(benchmark: str, figures: Iterable[Figure]) -> int:
    """Print and keep figures; the exit code is 1 when any is short of its target.

    Args:
        benchmark: its name, as in `make bench-NAME`.
        figures: may be measured while they are asked for. What was measured before an error is kept.
    """
    record, measured = records.begin(benchmark), list[Figure]()
    try:
        for figure in figures:
            print(figure, flush=True)
            measured.append(figure)
    finally:
        if measured:
            print(f"kept in {records.keep(record, measured)}", file=sys.stderr)
    return int(any(figure.is_short for figure in measured))
