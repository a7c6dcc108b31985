"""A shell that runs the commands of one page, in a home of its own with a cluster of its own on free ports.

What it prints is told as the reader of the page would see it: the home is `/home/anna`, the account `anna`,
and the machine `node1`.
"""

from __future__ import annotations

import getpass
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from quakegrid import testing
from tests.manual.matching import matches
from tests.manual.pages import Block, blocks_of
from tests.support.processes import free_port

TIMEOUT_S = 300.0
HOME, ACCOUNT, MACHINE = "/home/anna", "anna", "node1"
_MARK = "--- the command has ended:"


class Terminal:
    """A shell of its own. Not for several threads.

    Args:
        home: its HOME and its current folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        environ = testing.isolated_environ(home) | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "90",
            "NO_COLOR": "1",
            "TERM": "dumb",
            "PYTHONWARNINGS": "",
        }
        environ.pop("QUAKEGRID_STATE_DIR", None)
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=home,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._shell.kill()
        self._shell.communicate()

    def run(self, command: str, timeout_s: float = TIMEOUT_S) -> tuple[list[str], int]:
        """Run a command, with nothing to read.

        Returns:
            What it printed, as a reader would see it, and its exit code.
        """
        assert self._shell.stdin is not None
        text = f"{{ {command}\n}} </dev/null 2>&1\nprintf '\\n{_MARK} %d\\n' $?\n"
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()
        printed = self._read_until_mark(time.monotonic() + timeout_s, command)
        before, _, code = printed.rpartition(_MARK)
        return self._as_seen(before).splitlines(), int(code)

    def _read_until_mark(self, end_s: float, command: str) -> str:
        assert self._shell.stdout is not None
        seen, descriptor = b"", self._shell.stdout.fileno()
        while not re.search(rf"{_MARK} \d+\n$".encode(), seen):
            ready, _, _ = select.select([descriptor], [], [], max(0.0, end_s - time.monotonic()))
            piece = os.read(descriptor, 1 << 16) if ready else b""
            assert piece, f"`{command}` did not end; it printed:\n{seen.decode(errors='replace')}"
            seen += piece
        return seen.decode(errors="replace")

    def _as_seen(self, text: str) -> str:
        for word, seen in (
            (str(self.home), HOME),
            (socket.gethostname(), MACHINE),
            (getpass.getuser(), ACCOUNT),
        ):
            text = re.sub(rf"(?<![\w-]){re.escape(word)}(?![\w-])", seen, text)
        return text


@contextmanager
def opened(home: Path) -> Iterator[Terminal]:
    """A terminal in this home; if the page leaves a cluster there, it is taken down."""
    state_dir = home / ".local" / "state" / "quakegrid"
    state_dir.mkdir(parents=True)
    testing.write_cluster_config(state_dir, {"web": {"port": str(free_port())}})
    with Terminal(home) as terminal:
        try:
            yield terminal
        finally:
            terminal.run("cd; quakegrid down --force")


def run_page(page: Path, terminal: Terminal) -> Iterator[tuple[Block, str, str]]:
    """Run the blocks of a page one after the other.

    Yields:
        Each block with a command that did something else than the page says, the command, and what differs.
    """
    for block in blocks_of(page):
        prepare(block, terminal)
        if not block.is_run:
            continue
        commands = block.commands()
        for command in commands:
            printed, code = terminal.run(command.text)
            wanted = int(block.notes.get("exit code", 0)) if command is commands[-1] else 0
            if code != wanted:
                yield block, command.text, f"ended with {code} in place of {wanted}:\n" + "\n".join(printed)
            elif not matches(command.output, printed):
                shown = "\n".join(command.output)
                yield (
                    block,
                    command.text,
                    "the page shows:\n" + shown + "\nit printed:\n" + "\n".join(printed),
                )


def prepare(block: Block, terminal: Terminal) -> None:
    """Do what the notes of a block want done first, and write the file that it is."""
    if "model" in block.notes:
        case, _, folder = block.notes["model"].partition(" as ")
        testing.copy_engine_case(case, terminal.home / folder)
    if "run first" in block.notes:
        printed, code = terminal.run(block.notes["run first"])
        assert code == 0, "\n".join(printed)
    if block.title and "not run" not in block.notes:
        path = terminal.home / block.title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        path.chmod(0o755)
