"""What `oq shell` runs in a driver: a Starmap of generators with subtasks, judged where it is received.

The driver imports it by its name alone, so it is copied to where the command line looks.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

TASK_COUNT = 6
PART_COUNT = 50


def generate(number: int, monitor: Any) -> Any:
    """Partial results, and a subtask for each tenth."""
    import time

    for part in range(PART_COUNT):
        time.sleep(0.01)
        yield {number * PART_COUNT + part: 1}
        if part % 10 == 0:
            yield finish, number * PART_COUNT + part


def finish(number: int, monitor: Any) -> dict[int, int]:
    """The subtask."""
    return {-1 - number: 1}


def main(verbose: bool = False) -> None:
    """Run the Starmap; exit code 3 when something was lost or came twice."""
    from openquake.baselib import parallel

    found: Counter[int] = Counter()
    for result in parallel.Starmap(generate, [(number,) for number in range(TASK_COUNT)]):
        found.update(result)
    numbers = range(TASK_COUNT * PART_COUNT)
    expected = Counter([*numbers, *(-1 - number for number in numbers if number % PART_COUNT % 10 == 0)])
    if found != expected:
        print(f"lost {expected - found}, too many {found - expected}")
        sys.exit(3)
    print("STARMAP DONE")
