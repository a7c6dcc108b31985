"""Process 1 of a machine for tests that shares nothing with other machines but what nobody can change.

`python -m tests.nofs.quickstart.init` reads a JSON object from its first line of input: a folder for what the
machine writes, its name, folders of this computer and where they are seen there, files with their texts and
modes, people with their numbers. The machine sees this computer's disk, and whatever it writes is seen there
only. Prints "ready", and ends with its input; then all processes
of the machine end. Runs in namespaces of its own only.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

# Empty on each machine.
EMPTY = {"tmp": 0o1777, "var/tmp": 0o1777, "home": 0o755, "opt": 0o755, "dev/shm": 0o1777, "run": 0o755}


def run(*command: object) -> None:
    """Run a program that must end well."""
    subprocess.run(list(map(str, command)), check=True)


def make_root(folder: Path) -> Path:
    """A root in which this computer's disk can be written without being changed."""
    upper, work, root = (folder / name for name in ("upper", "work", "root"))
    for each in (upper, work, root):
        each.mkdir()
    run("mount", "--make-rprivate", "/")
    run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={upper},workdir={work}", root)
    for name in ("dev", "sys"):
        run("mount", "--rbind", f"/{name}", root / name)
    run("mount", "-t", "proc", "proc", root / "proc")
    for name, mode in EMPTY.items():
        place = root / name
        place.mkdir(parents=True, exist_ok=True)
        run("mount", "-t", "tmpfs", "-o", f"mode={mode:o}", "tmpfs", place)
    return root


def main() -> None:
    """Make the machine and keep it until the input ends."""
    wanted = json.loads(sys.stdin.readline())
    root = make_root(Path(wanted["folder"]))
    for path, place in wanted["seen"].items():
        inside = root / place.lstrip("/")
        inside.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", path, inside)
    (root / ".before").mkdir(exist_ok=True)
    os.chdir(root)
    run("pivot_root", ".", ".before")
    os.chroot(".")
    os.chdir("/")
    run("umount", "--lazy", "/.before")
    socket.sethostname(wanted["name"])
    for path, (text, mode) in wanted["files"].items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).unlink(missing_ok=True)
        Path(path).write_text(text, encoding="utf-8")
        Path(path).chmod(mode)
    for name, number in wanted["people"].items():
        run("useradd", "--create-home", "--user-group", "--uid", number, "--shell", "/bin/sh", name)
    for folder in Path(sys.base_prefix).parents:  # everybody can reach the Python of a machine
        folder.chmod(folder.stat().st_mode | 0o011)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps for us
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
