"""Programs whose sessions end while a link is cut, and whether anything of them is left after it."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support import kernel
from tests.support.namespace_cluster import MASTER, REPOSITORY, NamespaceCluster

# Longer than a turn of the cores: where more sessions want one than there are, each gets it in its turn.
WORKERS_S = 45.0
# Once all links are whole: what was cut off is put right so soon.
STRAY_S = 30.0
# A program that ends its session while services are away may try again for so long.
END_S = 120.0


class Ending:
    """One such program.

    Args:
        cluster: where it runs, on the master.
        folder: where its tasks say where they begin.
        how: "end" or "abort".
    """

    def __init__(self, cluster: NamespaceCluster, folder: Path, how: str) -> None:
        self._cluster, self._folder, self.how = cluster, folder, how
        folder.mkdir()
        module = "tests.faults.harness.ending_program"
        command = [sys.executable, "-P", "-m", module, str(cluster.state_dir(MASTER)), str(folder), how]
        with (cluster.directory / "endings.log").open("ab") as log:
            self._process = subprocess.Popen(
                cluster.network.inside(MASTER, command),
                env=cluster.environ(MASTER),
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_for_nodes(self) -> list[int]:
        """The nodes beside the master where its tasks have begun; none if it gets no worker there in time."""
        end_s = time.monotonic() + WORKERS_S
        names = {
            self._cluster.network.node_name(node): node for node in self._cluster.nodes if node != MASTER
        }
        while time.monotonic() < end_s and self._process.poll() is None:
            found = {names[name] for name, *_ in self._begins() if name in names}
            if found:
                return sorted(found)
            time.sleep(0.05)
        return []

    def tell(self) -> None:
        """Let it end its session."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it was ended by another fault
            self._process.stdin.write(b"\n")
            self._process.stdin.flush()

    def finish(self) -> str:
        """Wait for its end; what is wrong."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()  # has it end, too
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return f"a program could not {self.how} its session within {END_S:.0f} s"
        return ""

    def strays(self) -> list[int]:
        """Workers that ran its tasks and live: processes of an ended session."""
        return [
            pid
            for _, pid, begin_s in self._begins()
            if 0 < kernel.start_time(pid) / kernel.TICKS_HZ <= begin_s  # and no other with its number
        ]

    def _begins(self) -> list[tuple[str, int, float]]:
        """Node and process of each task that began, and when."""
        try:
            text = (self._folder / "begins").read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        return [
            (words[1], int(words[2]), float(words[3]))
            for line in text.splitlines()
            if len(words := line.split()) == 4
        ]


class Endings:
    """All of a run."""

    def __init__(self, cluster: NamespaceCluster) -> None:
        self._cluster = cluster
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._all: list[Ending] = []
        self._wrong: list[str] = []

    @contextlib.contextmanager
    def started(self, how: str) -> Iterator[Ending]:
        """A program that runs, and has ended after; for any thread."""
        ending = Ending(self._cluster, self._cluster.directory / f"ending{next(self._numbers)}", how)
        try:
            yield ending
        finally:
            wrong = ending.finish()
            with self._lock:
                self._all.append(ending)
                self._wrong += [wrong] if wrong else []

    def judge(self) -> list[str]:
        """What is wrong, with all links whole: programs that hung, and workers that live in spite of all."""
        end_s = time.monotonic() + STRAY_S
        while (strays := [pid for each in self._all for pid in each.strays()]) and time.monotonic() < end_s:
            time.sleep(0.1)
        late = f"{STRAY_S:.0f} s after links were whole"
        return self._wrong + [f"process {pid} of an ended session lives {late}" for pid in strays]
