"""Many open pages in a process of their own: `python -m benchmarks.web.pages PORT COUNT`.

Says `open` when all of them are; at the end of its input it tells, as JSON, for each job when each page heard
that it executes, in seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Page:
    """One open page: reads events, and notes when it heard of which job."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.heard_s: dict[int, float] = {}
        self.opened = asyncio.Event()

    async def follow(self) -> None:
        """Read until cancelled."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 22)
        writer.write(f"GET /live/jobs HTTP/1.1\r\nHost: localhost:{self._port}\r\n\r\n".encode())
        kind = ""
        while line := await reader.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
                self.opened.set()
            elif name == "data" and kind == "job":
                job = json.loads(value)
                if job["state"] == "executing":
                    self.heard_s.setdefault(job["id"], time.monotonic())
        writer.close()


async def follow_all(port: int, count: int) -> None:
    """Open pages, and tell what they heard."""
    pages = [Page(port) for _ in range(count)]
    following = [asyncio.create_task(page.follow()) for page in pages]
    await asyncio.gather(*(page.opened.wait() for page in pages))
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in following:
        task.cancel()
    jobs = sorted({job for page in pages for job in page.heard_s})
    print(json.dumps({job: [page.heard_s[job] for page in pages if job in page.heard_s] for job in jobs}))


class Crowd:
    """Pages that are open in another process."""

    def __init__(self, process: subprocess.Popen[str], count: int) -> None:
        self._process, self._count = process, count

    def delays_s(self, changed_s: Mapping[int, float]) -> list[float]:
        """How long after each change each page heard of it.

        Args:
            changed_s: job to the moment of the monotonic clock at which it began to execute.
        """
        said, _ = self._process.communicate()
        heard_s = {int(job): times for job, times in json.loads(said).items()}
        assert all(len(heard_s[job]) == self._count for job in changed_s), "a page has not heard of a job"
        return [heard - at_s for job, at_s in changed_s.items() for heard in heard_s[job]]


@contextmanager
def opened(port: int, count: int) -> Iterator[Crowd]:
    """Pages that are open, in a process of their own: what they do takes no time of who asks for it."""
    command = [sys.executable, "-m", "benchmarks.web.pages", str(port), str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield Crowd(process, count)
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(follow_all(int(sys.argv[1]), int(sys.argv[2])))
