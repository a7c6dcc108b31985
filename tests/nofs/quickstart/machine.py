"""A machine that shares nothing with others, with a person at its terminal.

What is not as on a machine that you would buy, and why:

- `sudo` and `systemctl` stand in for the real ones: containers in which tests run have neither. The person's
  shell is root's, and `sudo` goes on as root, or as who it is told.
- The package index is this computer's cache of `uv`, and `uv` that of the checkout: namespaces lead nowhere.
- The engine's kernels are those of this computer: each machine would compile them for minutes.
- Its disk begins as this computer's (interpreter, git, make, system accounts); what it writes is its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.nofs.quickstart import kernels
from tests.people.machine import children
from tests.support.namespace_cluster import REPOSITORY
from tests.support.namespaces import Network, tool

PERSON, PERSON_UID = "anna", 7101
HOME = Path("/home", PERSON)
VENV = Path("/opt/quakegrid/venv")
TIMEOUT_S = 900.0
CLONED_FROM = Path("/srv/quakegrid")
UV = Path(sys.prefix, "tools", "bin", "uv")
_SUDO = f"""#!/bin/sh
if [ "$1" = -u ]; then
    user=$2; shift 2
    exec setpriv --reuid="$user" --regid="$user" --init-groups env HOME=/ "$@"
fi
exec env HOME=/root SUDO_USER={PERSON} "$@"
"""
_SYSTEMCTL = f"""#!/bin/sh
exec python3 {Path("/srv/systemctl.py")} "$@"
"""


class OfThePage(Network):
    """The addresses that pages of the manual have."""

    def address(self, node: int) -> str:
        """The first is the master."""
        return f"10.0.0.{node + 1}"


class Machine:
    """A machine, as a context manager.

    Args:
        network: that it is in.
        number: its place there.
        folder: for what it writes.
        repository: what it clones.
    """

    def __init__(self, network: Network, number: int, folder: Path, repository: Path) -> None:
        self.name = network.node_name(number)
        self._network, self._number = network, number
        self._folder, self._repository = folder, repository
        self._pid = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[Machine]:
        """Make it; at the end nothing of it is left."""
        own = ["--uts", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        enter = [tool("ip"), "netns", "exec", self._network.name(self._number), "unshare", *own]
        holder = subprocess.Popen(
            [*enter, sys.executable, "-m", "tests.nofs.quickstart.init"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=REPOSITORY,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(json.dumps(self._wanted()) + "\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "ready\n", "the machine could not be made"
        (self._pid,) = children(holder.pid)
        try:
            yield self
        finally:
            holder.communicate(timeout=TIMEOUT_S)

    def path(self, inside: Path | str) -> Path:
        """Where root outside of the machine finds a file of it."""
        return Path(f"/proc/{self._pid}/root", str(inside).lstrip("/"))

    def type(
        self,
        command: str,
        variables: Mapping[str, str] | None = None,
        *,
        answer: str = "y",
        who: str = "",
        folder: Path = HOME,
    ) -> subprocess.CompletedProcess[str]:
        """Type a command, and an answer to its question, if it has one; it must end well.

        Args:
            command: as it is on the page.
            variables: of the shell.
            answer: the line that is typed next.
            who: the account of the shell; by default root's, see above.
            folder: where it is typed.
        """
        done = self.attempt(command, variables, answer=answer, who=who, folder=folder)
        assert done.returncode == 0, f"{self.name}: {command}\n{done.stderr[-4000:]}{done.stdout[-2000:]}"
        return done

    def attempt(
        self,
        command: str,
        variables: Mapping[str, str] | None = None,
        *,
        answer: str = "y",
        who: str = "",
        folder: Path = HOME,
    ) -> subprocess.CompletedProcess[str]:
        """Type a command, whatever becomes of it."""
        enter = ["nsenter", "--target", str(self._pid), "--mount", "--pid", "--net", "--uts", "--ipc", "--"]
        become = ["setpriv", f"--reuid={who}", f"--regid={who}", "--init-groups"] if who else []
        terminal, keyboard = pty.openpty()
        os.write(terminal, f"{answer}\n".encode())
        try:
            return subprocess.run(
                [*enter, *become, "env", f"--chdir={folder}", "sh", "-c", command],
                env=self._environ() | dict(variables or {}),
                stdin=keyboard,
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        finally:
            os.close(keyboard)
            os.close(terminal)

    def give_kernels(self) -> None:
        """Give it compiled kernels, once the engine is there."""
        if self.path(VENV).exists() and not self.path(kernels.FOLDER).exists():
            assert kernels.give(self.path("/"), VENV) > 0

    def _wanted(self) -> dict[str, object]:
        seen = {str(self._repository): str(CLONED_FROM)}
        disk = Path("/").stat().st_dev
        for path in (Path(sys.base_prefix), UV.parent, _uv_cache()):
            if path.stat().st_dev != disk:  # as in containers that have a checkout or a cache mounted
                seen[str(path)] = str(path)
        script = Path(__file__).with_name("systemctl.py").read_text(encoding="utf-8")
        return {
            "folder": str(self._folder),
            "name": self.name,
            "seen": seen,
            "files": {
                "/usr/local/bin/sudo": (_SUDO, 0o755),
                "/usr/local/bin/systemctl": (_SYSTEMCTL, 0o755),
                "/srv/systemctl.py": (script, 0o644),
            },
            "people": {PERSON: str(PERSON_UID)},
        }

    def _environ(self) -> dict[str, str]:
        path = f"{sys.base_prefix}/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
        person = {"HOME": str(HOME), "USER": PERSON, "PATH": path, "LANG": "C.UTF-8"}
        packages = {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(_uv_cache()), "MAKEFLAGS": f"UV={UV}"}
        return person | packages | {"REPOSITORY": str(CLONED_FROM)}


def _uv_cache() -> Path:
    said = subprocess.run([UV, "cache", "dir"], capture_output=True, text=True, check=True)
    return Path(said.stdout.strip())


def copy_of_checkout(folder: Path) -> Path:
    """A repository with what this checkout has, committed or not."""
    git = ["git", "-C", str(REPOSITORY)]
    named = [*git, "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(named, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():  # a file that was removed is still named
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    own = ["git", "-C", str(folder), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*own, "init", "--quiet"], check=True)
    subprocess.run([*own, "add", "--all"], check=True)
    subprocess.run([*own, "commit", "--quiet", "--message=As it is"], check=True)
    return folder
