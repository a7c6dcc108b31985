"""Process 1 of a machine for tests: makes the machine's view of the disk, then reaps what is left to it.

`python -m tests.people.namespace` reads a JSON object from its first line of input: texts of files of /etc,
homes with their owners, and the folders that all accounts have to read. It prints "ready", and ends at the
end of its input. With process 1 all processes of the machine end. Runs in namespaces of its own only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_MS_BIND, _MS_REC = 0x1000, 0x4000
# Empty on the machine, and writable as on any other.
SCRATCH = {Path("/tmp"): 0o1777, Path("/var/tmp"): 0o1777, Path("/dev/shm"): 0o1777, Path("/home"): 0o755}


def mount(source: str, target: Path, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount something.

    Raises:
        OSError: the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    args = (source.encode(), os.fsencode(target), kind.encode(), flags, options.encode())
    if libc.mount(*args) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def cover(folder: Path, mode: int, kept: Iterable[Path]) -> None:
    """Put an empty folder in place of one, in which only some folders below it are what they were."""
    inside = [(path, os.open(path, os.O_PATH)) for path in kept if path.is_relative_to(folder)]
    mount("tmpfs", folder, "tmpfs", options=f"mode={mode:o}")
    for path, descriptor in inside:
        path.mkdir(parents=True, exist_ok=True)
        mount(f"/proc/self/fd/{descriptor}", path, flags=_MS_BIND | _MS_REC)
        os.close(descriptor)


def hidden(path: Path) -> Path | None:
    """The uppermost folder above a path that not everybody may enter."""
    for folder in reversed(path.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            return folder
    return None


def copy_over(folder: Path) -> None:
    """Put a copy in place of a folder, so that it can be changed on this machine only."""
    copy = Path("/tmp/copy")
    subprocess.run(["cp", "--archive", folder, copy], check=True)
    mount(str(copy), folder, flags=_MS_BIND)


def main() -> None:
    """Make the machine and keep it until the input ends."""
    wanted = json.loads(sys.stdin.readline())
    needed = sorted({Path(path).resolve() for path in wanted["needed"]})
    outer = [path for path in needed if not any(other in path.parents for other in needed)]
    mount("proc", Path("/proc"), "proc")
    covers = dict(SCRATCH)
    for path in outer:
        if (folder := hidden(path)) and not any(folder.is_relative_to(each) for each in covers):
            covers[folder] = 0o755
    for folder, mode in covers.items():
        cover(folder, mode, outer)
    copy_over(Path("/etc"))
    for path, text in wanted["files"].items():
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text(text, encoding="utf-8")
        Path(path).chmod(0o644)
    for home, uid in wanted["homes"].items():
        Path(home).mkdir(mode=0o700)
        os.chown(home, uid, uid)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps for us
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
