"""How a process asks the system for memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Prints how many heaps the allocator has when twenty threads are there that have allocated something.
PROGRAM = """
import ctypes, os, sys, tempfile, threading
from quakegrid.machine import process_memory
libc = ctypes.CDLL(None)
if sys.argv[1] == "limited":
    assert process_memory.limit_arenas()
meeting = threading.Barrier(21)
kept = []
def run():
    kept.append(bytearray(1000))
    meeting.wait(60)
    meeting.wait(60)
threads = [threading.Thread(target=run) for _ in range(20)]
for thread in threads:
    thread.start()
meeting.wait(60)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as target:
    stream = ctypes.c_void_p(libc.fopen(target.name.encode(), b"w"))
    assert libc.malloc_info(0, stream) == 0
    libc.fclose(stream)
    print(target.read().count(b"<heap nr="))
meeting.wait(60)
"""


def heap_count(mode: str) -> int:
    """The number of heaps in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_threads_share_few_heaps() -> None:
    """A heap for each thread would keep what each thread once needed, which looked like a leak."""
    assert heap_count("usual") > 2
    assert heap_count("limited") <= 2


# Prints how many bytes stay when large blocks below small ones are freed, after a large one was freed before.
BLOCKS = """
from pathlib import Path
from quakegrid.machine import process_memory
def kept_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
assert process_memory.give_large_blocks_back()
del (first := bytearray(b"x") * 30_000_000)[:]
before_bytes = kept_bytes()
blocks = []
for _ in range(5):
    blocks.append(bytearray(b"x") * 20_000_000)
    blocks.append(bytearray(b"x") * 2_000)
del blocks[::2]
print(kept_bytes() - before_bytes)
"""


def test_large_blocks_are_given_back() -> None:
    """A service that once sent a large answer would keep its room."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert int(done.stdout) < 10_000_000
