"""Which warnings of the engine are routine: it logs them in calculations that are well. Pure.

A run shows them with `--verbose` only; the log of the job has them all.
"""

from __future__ import annotations

import re

_ROUTINE = re.compile(
    r"Sent \d+ \S+ tasks, "
    r"|Using \d+ \S+ workers, "
    r"|Disabled distribution"
    r"|\S+@\S+ running .* --hc="
    r"|Stored .+ on .+ in \d+ seconds"
    r"|Global RateMap of "
    r"|This is a calculation with \d+ tasks, "
    r"|There are \d+ multiFaultSources "
    r"|Performing [\d_]+ aggregations"
    r"|Importing (\d+ files, |\S+$)"
    r"|There were slow tasks"
)


def is_routine(level: str, message: str) -> bool:
    """Whether a line of a job's log says nothing that a person should do something about.

    Args:
        level: of the line, such as WARNING.
        message: its text.
    """
    return level == "WARNING" and _ROUTINE.match(message.strip()) is not None
