"""Large files to and from the web service, and slow readers; sizes are those of the targets."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
UPLOAD_BYTES = 2 * GIB
READERS = 200
TIMEOUT_S = 300
# Of a second in which slow readers are looked at.
ROUNDS = 10


def write_datastore(path: Path) -> None:
    """A real HDF5 file with a dataset of a gigabyte of numbers."""
    numbers = np.random.default_rng(1).random(GIB // 8 // 64)
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset("numbers", shape=(GIB // 8,), dtype=float)
        for number in range(64):
            dataset[number * len(numbers) : (number + 1) * len(numbers)] = numbers


def download_s(port: int, path: str) -> tuple[float, int]:
    """Get a file; the time, and its bytes.

    Raises:
        AssertionError: its length was not announced, or it was cut short.
    """
    begin_s = time.monotonic()
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == http.client.OK, answer.read(1000)
        announced, size = int(answer.headers["Content-Length"]), 0
        while block := answer.read(MIB):
            size += len(block)
    assert size == announced, f"{size} bytes of {announced}"
    return time.monotonic() - begin_s, size


def refused_upload(port: int) -> tuple[float, float]:
    """Send two gigabytes; seconds until the answer, and megabytes that were taken from us."""
    head = (
        f"POST /v1/calc/run HTTP/1.1\r\nHost: localhost:{port}\r\nContent-Length: {UPLOAD_BYTES}\r\n"
        "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    )
    block, sent = os.urandom(MIB), 0
    begin_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(head.encode())
        answer = connection.recv(KIB)
        taken_s = time.monotonic() - begin_s
        assert answer.startswith(b"HTTP/1.1 413 "), answer
        with contextlib.suppress(OSError):
            while sent < UPLOAD_BYTES:
                connection.sendall(block)
                sent += MIB
    return taken_s, sent / MIB


@contextmanager
def slow_readers(port: int, path: str) -> Iterator[None]:
    """Two hundred who have asked for a large file, and read a byte in a second."""
    readers = []
    try:
        for _ in range(READERS):
            reader = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
            readers.append(reader)
        for reader in readers:
            assert reader.recv(1)
        yield
        for reader in readers:
            assert reader.recv(1)
    finally:
        for reader in readers:
            reader.close()


def memory_mib(pid: int, name: str) -> float:
    """What a process has in use (`VmRSS`), or the most that it had (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:")) / KIB
