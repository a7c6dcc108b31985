"""How many files a service may have open: as many as the machine allows, and a warning if these are too few.

Each connection is an open file, and each pipe. A lane has a connection to each worker of its sessions; when
it has no file left for one more, the workers beyond get no tasks.
"""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("quakegrid.service")
# Of a service that serves nobody yet, with room for clients.
FILES_AT_REST = 128


def allow_many_files() -> None:
    """Allow this process and its children as many open files as the machine allows.

    The usual limit of 1024 exists for programs that call select(). Strangers who connect and send nothing
    could reach it.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class FileNeeds:
    """What a service needs that serves a number of cores; warns when it is more than it may have.

    Args:
        holder: who has the files, in words.
        files_a_core: what each core takes.
    """

    def __init__(self, holder: str, files_a_core: int) -> None:
        self._holder, self._files_a_core = holder, files_a_core
        self._most_cores = 0

    def look(self, core_count: int) -> None:
        """There are so many cores now; it is told once for each number that was not reached before."""
        if core_count <= self._most_cores:
            return
        self._most_cores = core_count
        needed = FILES_AT_REST + self._files_a_core * core_count
        limit, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if limit != resource.RLIM_INFINITY and needed > limit:
            log.warning(
                "few_open_files limit=%d needed=%d reason=%s of %d cores do not fit; raise LimitNOFILE in "
                "the systemd unit, or the hard limit of nofile in /etc/security/limits.conf, and restart",
                limit,
                needed,
                self._holder,
                core_count,
            )
