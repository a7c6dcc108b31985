"""Wall clocks that a test sets, each for processes of its own; the machine's own clock is never touched.

They are made by libfaketime, which is preloaded into the processes; monotonic clocks and times of files stay.
"""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

HOUR_S = 3600
# Where distributions put it; `make install` brings another, for x86-64.
SYSTEM_LIBRARIES = "/usr/lib/*/faketime/libfaketimeMT.so.1"
SHARED_MEMORY = Path("/dev/shm")


class Clock:
    """The clock of some processes, which may be set while they run.

    Args:
        path: of a file that tells them how far it is off.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Let it be so far ahead of the machine's from now on."""
        draft = self._path.with_suffix(".draft")
        draft.write_text(f"{offset_s:+d}\n", encoding="ascii")
        draft.rename(self._path)

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process, and those that it starts, go by this clock."""
        return {
            "LD_PRELOAD": str(find_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }


def remove_traces(pid: int) -> None:
    """Remove what the library leaves in shared memory of a process that was killed."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        (SHARED_MEMORY / name).unlink(missing_ok=True)


def require(folder: Path) -> None:
    """Skip the test where clocks of processes cannot be set."""
    clock = Clock(folder / "probe")
    clock.set(HOUR_S)
    if find_library() is not None:
        command = [sys.executable, "-c", "import time; print(time.time())"]
        environ = os.environ | clock.environment
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
        with contextlib.suppress(ValueError):
            if abs(float(done.stdout) - time.time() - HOUR_S) < HOUR_S / 2:
                return
    pytest.skip("libfaketime is missing or does not work here: on x86-64 `make install` brings it, elsewhere "
                "the system's package libfaketime")  # fmt: skip


@functools.cache
def find_library() -> Path | None:
    """The library to preload, if there is one."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        files = metadata.files("libfaketime") or []
        found = [Path(file.locate()) for file in files if file.name == "libfaketime.so.1"]
        if found and os.uname().machine == "x86_64":
            return found[0]
    return next(Path("/").glob(SYSTEM_LIBRARIES[1:]), None)
