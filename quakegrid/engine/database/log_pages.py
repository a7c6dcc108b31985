"""A job's log as the engine shows it, read page by page.

The engine's `get_log` returns all lines at once; a log of millions of lines fills the memory of the dbserver
and of its caller, and fits into no message. `oq engine --show-log` only goes through the lines once.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator

from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.values import LogLine


class LogText:
    """The lines of a job's log as text, in order; each pass reads them again from the dbserver.

    Raises:
        QuakeGridError: while it is read, what `DbClient.logs.list_log` raises.
    """

    def __init__(self, client: DbClient, job_id: int) -> None:
        self._client = client
        self._job_id = job_id

    def __iter__(self) -> Iterator[str]:
        """Read the lines, some thousand at a time."""
        return (format_line(self._job_id, line) for line in self._client.logs.list_log(self._job_id))

    def __len__(self) -> int:
        """How many lines there are now."""
        return self._client.logs.get_log_size(self._job_id)

    def __repr__(self) -> str:
        """All lines as a list, as `oq db get_log` prints it."""
        return repr(list(self))


def format_line(job_id: int, line: LogLine) -> str:
    """A line as upstream's `get_log` writes it: the time in UTC, to hundredths of a second."""
    time = line.log_time.astimezone(datetime.UTC).replace(tzinfo=None)
    return (
        f"[{time.isoformat(' ', 'microseconds')[:-4]} #{job_id} {line.level}] {line.process} {line.message}"
    )
