"""What a library could change in the process that imports it: environment, signals, logs, hooks, limits.

Run in a fresh interpreter, by `python -m tests.support.calls.process_state`: it imports every module of
QuakeGrid that programs may import, and prints a line for each change that this made.
"""

from __future__ import annotations

import atexit
import builtins
import decimal
import faulthandler
import gc
import importlib
import locale
import logging
import os
import pkgutil
import random
import resource
import signal
import socket
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# The command line is a program. The bridge to the engine replaces attributes of the engine, in processes of
# ours only.
PROGRAMS = ("quakegrid.cli", "quakegrid.engine")
KERNEL_LINES = ("Threads:", "NoNewPrivs:", "Seccomp:")
KERNEL_SIGNALS = ("SigBlk:", "SigIgn:", "SigCgt:")
LIBC_SIGNALS = 3 << 31  # 32 and 33, which the C library itself uses


def snapshot() -> dict[str, object]:
    """The state of this process that belongs to the program, as values that can be compared."""
    umask = os.umask(0o077)
    os.umask(umask)
    wakeup_fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup_fd)
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    limits = [name for name in dir(resource) if name.startswith("RLIMIT_")]
    return {
        "environment": dict(os.environ),
        "folder and umask": (Path.cwd(), umask),
        "logging": _logging_state(),
        "signals": ([signal.getsignal(number) for number in signal.valid_signals()], wakeup_fd),
        "kernel": [line for line in status if line.startswith(KERNEL_LINES)],
        "kernel's signals": [
            int(line.split()[1], 16) & ~LIBC_SIGNALS for line in status if line.startswith(KERNEL_SIGNALS)
        ],
        "timers": [signal.getitimer(which) for which in (0, 1, 2)],
        "threads": threading.enumerate(),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "imports": (list(sys.path), list(sys.meta_path), list(sys.path_hooks)),
        "hooks": (
            sys.excepthook,
            sys.unraisablehook,
            threading.excepthook,
            sys.displayhook,
            sys.breakpointhook,
        ),
        "tracing": (sys.gettrace(), sys.getprofile(), faulthandler.is_enabled()),
        "garbage collection": (gc.isenabled(), gc.get_threshold(), gc.get_freeze_count(), list(gc.callbacks)),
        "interpreter": (sys.getrecursionlimit(), sys.getswitchinterval(), set(vars(builtins))),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "sockets": socket.getdefaulttimeout(),
        "locale": locale.setlocale(locale.LC_ALL),
        "numbers": (str(decimal.getcontext()), random.getstate()),
        "limits": [resource.getrlimit(getattr(resource, name)) for name in limits],
        "cores": (os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)),
        "open files": sorted(link.name for link in Path("/proc/self/fd").iterdir()),
        "children": Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii"),
    }


def differences(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """What differs between two snapshots, a line each."""
    return [f"{what}: {before[what]} is now {after[what]}" for what in before if before[what] != after[what]]


def _logging_state() -> tuple[object, ...]:
    """The root, the settings for all, and each log of QuakeGrid that would not pass its lines on as usual."""
    root, manager = logging.root, logging.root.manager
    own = {
        name: (log.level, log.handlers, log.propagate, log.disabled)
        for name, log in manager.loggerDict.items()
        if name.startswith("quakegrid") and isinstance(log, logging.Logger)
    }
    unusual = {name: state for name, state in own.items() if state != (logging.NOTSET, [], True, False)}
    general = (manager.disable, logging.raiseExceptions, logging.lastResort, logging.getLogRecordFactory())
    names = [logging.getLevelName(level) for level in range(60)]
    return (root.level, list(root.handlers), list(root.filters), unusual, general, names)


def _note_calls(module: types.ModuleType, name: str, noted: list[str]) -> None:
    """Note who of QuakeGrid calls a function that leaves nothing that a snapshot could show."""
    function: Callable[..., Any] = getattr(module, name)

    def noting(*args: Any, **kwargs: Any) -> Any:
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("quakegrid"):
            noted.append(f"{caller} calls {module.__name__}.{name}")
        return function(*args, **kwargs)

    setattr(module, name, noting)


def public_modules() -> Iterator[str]:
    """Names of all modules that programs may import, each when the one before is imported."""
    yield "quakegrid"
    for found in pkgutil.walk_packages(importlib.import_module("quakegrid").__path__, "quakegrid."):
        if not found.name.startswith(PROGRAMS) and not found.name.endswith(".__main__"):
            yield found.name


def main() -> None:
    """Import one module after the other, and print what each has changed."""
    # joblib changes the environment and imports numpy, which adds filters of warnings. A program that asks
    # for joblib's backend has imported it.
    importlib.import_module("joblib")
    noted: list[str] = []
    _note_calls(atexit, "register", noted)
    _note_calls(os, "register_at_fork", noted)
    before, count = snapshot(), 0
    for name in public_modules():
        importlib.import_module(name)
        after = snapshot()
        for line in [*differences(before, after), *noted]:
            print(f"{name} changes {line}")
        noted.clear()
        before, count = after, count + 1
    print(f"{count} modules", file=sys.stderr)


if __name__ == "__main__":
    main()
