"""A machine with accounts of its own, as the tests see it: run a program as somebody, look at its files."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from quakegrid.settings import installation
from tests.people import accounts
from tests.people.accounts import ACCOUNTS, Account

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 60.0
TOOLS = ("unshare", "nsenter", "setpriv")
# What the agent's unit gives it.
CAPABILITIES = ("setuid", "setgid")


def refusal() -> str:
    """Why there can be no such machine here; empty if there can be one."""
    if os.getuid() != 0:
        return "real accounts need root"
    if missing := [name for name in TOOLS if not shutil.which(name)]:
        return f"there is no {' and no '.join(missing)}: apt-get install util-linux"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/home"],
        capture_output=True,
        check=False,
    )
    return f"no namespaces here: {tried.stderr.decode().strip()}" if tried.returncode else ""


class Machine:
    """A machine, from `start` to `close`, on which `quakegrid install` has left its note.

    Args:
        people: its accounts.
        visible: folders besides the checkout and the interpreter that everybody has to read.
    """

    def __init__(self, people: Iterable[Account] = ACCOUNTS, visible: Iterable[Path] = ()) -> None:
        self.accounts = {each.name: each for each in people}
        self._visible = [ROOT, Path(sys.prefix), Path(sys.base_prefix), *visible]
        self._holder: subprocess.Popen[str] | None = None
        self._pid = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def start(self) -> None:
        """Make the machine."""
        people = list(self.accounts.values())
        wanted = {
            "files": {
                "/etc/passwd": accounts.passwd(people, Path("/etc/passwd").read_text(encoding="utf-8")),
                "/etc/group": accounts.group(people, Path("/etc/group").read_text(encoding="utf-8")),
                str(installation.NOTES): json.dumps({"files": [], "user": accounts.SERVICE.name}),
            },
            "homes": {str(each.home): each.uid for each in people},
            "needed": [str(path) for path in self._visible],
        }
        self._holder = subprocess.Popen(
            [
                "unshare",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                sys.executable,
                "-m",
                "tests.people.namespace",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.write(json.dumps(wanted) + "\n")
        self._holder.stdin.flush()
        assert self._holder.stdout.readline() == "ready\n", "the machine could not be made"
        (self._pid,) = children(self._holder.pid)

    def close(self) -> None:
        """End all processes of the machine; nothing of it is left."""
        if self._holder is not None:
            self._holder.communicate(timeout=TIMEOUT_S)
            self._holder = None

    def path(self, inside: Path | str) -> Path:
        """Where root outside of the machine finds a file of it."""
        return Path(f"/proc/{self._pid}/root", str(inside).lstrip("/"))

    def write(self, who: str, inside: Path | str, text: str, mode: int = 0o600) -> Path:
        """Write a file that belongs to an account, with its folders; returns its path on the machine."""
        path, uid = self.path(inside), self.uid(who)
        for folder in reversed(path.parents):
            if not folder.exists():
                folder.mkdir(mode=0o755)
                os.chown(folder, uid, uid)
        path.write_text(text, encoding="utf-8")
        os.chown(path, uid, uid)
        path.chmod(mode)
        return Path(inside)

    def uid(self, who: str) -> int:
        """The number of an account; root is there, too."""
        return 0 if who == "root" else self.accounts[who].uid

    def environ(self, who: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a login."""
        home = "/root" if who == "root" else str(self.accounts[who].home)
        names = {"HOME": home, "USER": who, "LOGNAME": who, "SHELL": "/bin/sh"}
        path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
        return names | {"PATH": path, "LANG": "C.UTF-8", "CI": "1"} | dict(extra or {})

    def command(
        self, who: str, *args: object, cwd: Path | str | None = None, capabilities: Sequence[str] = ()
    ) -> list[str]:
        """The command that runs a program on the machine as somebody.

        Args:
            who: name of an account, or root.
            args: the program and its arguments.
            cwd: the folder on the machine; by default the account's home.
            capabilities: what the program keeps of root's rights, such as "setuid"; nothing below it can
                have more. Without any it is like a login.
        """
        folder = cwd or self.environ(who)["HOME"]
        enter = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--"]
        program = ["env", f"--chdir={folder}", *map(str, args)]
        if who == "root":
            return [*enter, *program]
        become = ["setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups"]
        if capabilities:
            kept = ",".join(["-all", *(f"+{name}" for name in capabilities)])
            become += [f"--{kind}={kept}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
        return [*enter, *become, *program]

    def run(
        self,
        who: str,
        *args: object,
        environ: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        given: str = "",
        timeout_s: float = TIMEOUT_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program as somebody to its end; `environ` is added to the environment of a login.

        It can read `given`.
        """
        return subprocess.run(
            self.command(who, *args, cwd=cwd),
            env=self.environ(who, environ),
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def python(self, who: str, code: str, *args: object, timeout_s: float = TIMEOUT_S) -> str:
        """Run Python code as somebody; returns what it prints."""
        done = self.run(who, sys.executable, "-c", code, *args, timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start_program(
        self,
        who: str,
        *args: object,
        environ: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        capabilities: Sequence[str] = (),
    ) -> Program:
        """Start a program as somebody; see `command` and `run`."""
        process = subprocess.Popen(
            self.command(who, *args, cwd=cwd, capabilities=capabilities),
            env=self.environ(who, environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return Program(process)


class Program:
    """A program that runs on a machine. Its output is that of `subprocess.Popen`, both streams in one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    @property
    def pid(self) -> int:
        """Its number outside of the machine; waits until it has begun."""
        end_s = time.monotonic() + TIMEOUT_S
        while not (found := children(self.process.pid)):
            assert self.process.poll() is None, "it has ended"
            assert time.monotonic() < end_s, "it did not begin"
            time.sleep(0.01)
        return found[0]

    def send(self, number: int) -> None:
        """Signal it."""
        os.kill(self.pid, number)

    def wait_for(self, word: str) -> str:
        """Read its output until a line has `word`; returns all that was read."""
        assert self.process.stdout is not None
        seen = ""
        for line in self.process.stdout:
            seen += line
            if word in line:
                return seen
        raise AssertionError(f"ended without saying {word!r}: {seen}")

    def finish(self, timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
        """Wait for its end; returns exit code and the rest of the output."""
        rest, _ = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, rest

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it if it runs, and wait for its end."""
        if self.process.poll() is None:
            self.send(number)
        return self.finish()


def children(pid: int) -> list[int]:
    """The processes that a process has started, by their numbers outside of the machine."""
    return [
        int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    ]
