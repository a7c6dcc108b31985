"""Progress of a job's operations, as the lines of its log tell it. Pure.

The engine logs each percent of an operation: `classical  25% [40 submitted, 3 queued]`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_LINE = re.compile(
    r"(?P<operation>\S.{0,99}?) +(?P<percent>\d{1,3})% "
    r"\[(?P<sent>\d{1,9}) submitted, (?P<kept>\d{1,9}) queued\]",
    re.ASCII,
)


class OperationProgress(NamedTuple):
    """How far an operation is."""

    operation: str
    done_count: int
    total_count: int


def read(message: str) -> OperationProgress | None:
    """The progress that a line tells; None if it tells something else.

    The percentage is that of the tasks that were submitted, and is exact for up to a hundred of them.
    """
    found = _LINE.fullmatch(message.strip())
    if found is None:
        return None
    sent = int(found["sent"])
    done = -(-int(found["percent"]) * sent // 100)
    return OperationProgress(found["operation"], min(done, sent), sent + int(found["kept"]))
