"""The memory of one request of the web service."""

from __future__ import annotations

import subprocess
import sys

import pytest

from quakegrid.engine.web import memory_bound

GIB = 1 << 30
TAKE_TOO_MUCH = """
from quakegrid.engine.web import memory_bound
memory_bound.LEAST_BYTES = 256 << 20
memory_bound.set_here(1 << 40)
bytearray(1 << 20)
try:
    bytearray(1 << 30)
except MemoryError:
    print("refused")
"""


@pytest.mark.parametrize(("machine", "most"), [(GIB, 2 * GIB), (24 * GIB, 3 * GIB), (256 * GIB, 32 * GIB)])
def test_request_has_a_share_of_the_machine(machine: int, most: int) -> None:
    """On a small machine, enough for the engine."""
    assert memory_bound.most_bytes(machine) == most


def test_process_that_takes_more_is_told() -> None:
    """And goes on, so that it can say so."""
    command = [sys.executable, "-c", TAKE_TOO_MUCH]

    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    assert said == "refused\n"
