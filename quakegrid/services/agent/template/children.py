"""The first steps of a forked process before it is a worker or a driver, and its end.

Runs in the child only. Nothing here returns to the template's loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from quakegrid.journals.job_lists import JobList
from quakegrid.machine import parent_death, process_limits
from quakegrid.services.agent import worker_keys
from quakegrid.services.agent.linux import cgroups, orphans, user_rights
from quakegrid.services.agent.linux.oom_scores import DRIVER_SCORE, set_oom_score
from quakegrid.services.agent.orders import WorkerSpec
from quakegrid.services.agent.packets import close_all, read_memfd
from quakegrid.services.agent.rules.persons import Account

EXIT_CRASHED = 70
# Of the list of a driver's jobs, among its descriptors.
_JOBS_PLACE = 5
# The driver's main function: takes the request of the command line and the descriptor of its events.
DriverMain = Callable[[dict[str, Any], int], int]


def live_and_exit(parent_pid: int, live: Callable[[], int]) -> NoReturn:
    """Become a child that lives and dies by itself, run `live`, and exit with what it returns.

    Args:
        parent_pid: of the template, which may have ended already.
        live: what makes this child a worker or a driver.
    """
    code = EXIT_CRASHED
    try:
        _leave_template(parent_pid)
        code = live()
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else int(exc.code is not None)
        if isinstance(exc.code, str):
            print(exc.code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - the child's last frame
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 1
        os._exit(code)


def live_as_worker(spec: WorkerSpec, fds: Sequence[int], account: Account | None = None) -> int:
    """Be a worker until it is told to stop; returns the exit code.

    Args:
        spec: what it is to be.
        fds: its keys in a memfd, its setup in another one, then pipes for stdout and stderr, if there are
            any.
        account: whose process it becomes; None for none other.
    """
    from quakegrid.services.agent.worker.worker import run_worker  # noqa: PLC0415 - loaded after the fork guard

    cgroups.enter(spec.cgroup)  # while this process has the agent's rights
    _become(account, fds)
    keys_fd, setup_fd, *output_fds = fds
    _print_to(output_fds)
    return run_worker(spec, read_memfd(setup_fd), worker_keys.decode(read_memfd(keys_fd)))


def live_as_driver(fds: Sequence[int], run_driver: DriverMain, account: Account | None = None) -> int:
    """Be a driver until its command has ended; returns the exit code.

    Args:
        fds: its request in a memfd, the stream of its events, then 0, 1 and 2, then where it writes the ids
            of its jobs, then what the request was sent with for the driver's own use.
        run_driver: the driver's main function.
        account: whose process it becomes; None for none other.
    """
    set_oom_score(DRIVER_SCORE)
    fds = list(fds)
    job_list = _job_list(fds.pop(_JOBS_PLACE))
    _become(account, fds)
    request_fd, events_fd, *others = (os.dup(fd) for fd in fds)
    stdio, given = others[:3], others[3:]
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
        os.close(fd)
    close_all(fds)
    request = json.loads(read_memfd(request_fd)) | {"job_list": job_list, "given_fds": given}
    process_limits.take(request.get("limits", {}))
    return run_driver(request, events_fd)


def _job_list(fd: int) -> JobList | None:
    """The list of a driver's jobs, while this process is the agent's; None if nobody wants to know."""
    try:
        return JobList(fd)
    except OSError:
        return None
    finally:
        os.close(fd)


def _leave_template(parent_pid: int) -> None:
    """Give this child a session, signals and orphans of its own, and let it die with the template."""
    parent_death.die_with_parent()
    if os.getppid() != parent_pid:  # the template ended before this child asked for the signal
        os._exit(EXIT_CRASHED)
    orphans.adopt_orphans()
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _become(account: Account | None, fds: Sequence[int]) -> None:
    """Become the process of an account, with no descriptor besides 0, 1, 2 and these.

    Raises:
        OSError: the kernel refuses.
    """
    if account is None:
        return
    parent_pid = os.getppid()
    kept = {0, 1, 2, *fds}
    for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - each is one number
        if fd not in kept:
            with contextlib.suppress(OSError):  # that of the list itself is closed already
                os.close(fd)
    user_rights.become(account)
    parent_death.die_with_parent()  # again: the kernel forgets it when the user changes
    if os.getppid() != parent_pid:
        os._exit(EXIT_CRASHED)
    os.environ.update({"HOME": account.home, "USER": account.name, "LOGNAME": account.name})


def _print_to(fds: Sequence[int]) -> None:
    """Print into pipes. Without pipes this child prints where the template prints."""
    for number, fd in enumerate(fds, 1):
        os.dup2(fd, number)
        os.close(fd)
    # By lines, so that a worker that is killed has printed all of its lines.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
