"""The umask and limits of a command line, in its driver."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import pytest

from quakegrid.machine import process_limits

PROGRAM = """
import json, resource, sys
from quakegrid.machine import process_limits
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
process_limits.take(json.loads(sys.argv[1]))
print(json.dumps(process_limits.own()))
"""
UNLIMITED = resource.RLIM_INFINITY


def taken(limits: dict[str, list[int]]) -> dict[str, list[int]]:
    """What a process has that has taken limits; its own are at most 300 open files."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(limits)], capture_output=True, text=True, check=True
    )
    found: dict[str, list[int]] = json.loads(done.stdout)
    return found


def test_what_a_process_has_can_be_taken() -> None:
    """The umask comes along, and limits as they are."""
    found = taken({"umask": [0o077], "open_files": [100, 150], "core_bytes": [0, 0]})

    assert found == {"umask": [0o077], "open_files": [100, 150], "core_bytes": [0, 0]}


def test_no_limit_is_above_the_own_one() -> None:
    """A driver gets what its agent may give."""
    assert taken({"open_files": [1000, UNLIMITED]})["open_files"] == [300, 300]
    assert taken({"open_files": [UNLIMITED, 250]})["open_files"] == [250, 250]


def test_own_limits_are_valid() -> None:
    """What a command line tells passes the agent's check."""
    assert process_limits.is_valid(process_limits.own())
    assert process_limits.is_valid({})


@pytest.mark.parametrize(
    "limits",
    [
        None,
        [],
        {"memory": [1, 1]},
        {"umask": 0},
        {"umask": []},
        {"umask": [0o1000]},
        {"umask": [-1]},
        {"umask": [True]},
        {"open_files": [1]},
        {"open_files": [1, 1 << 63]},
        {"core_bytes": [-2, 0]},
        {"core_bytes": [1.0, 2]},
    ],
)
def test_other_values_are_refused(limits: object) -> None:
    """A command line can send anything."""
    assert not process_limits.is_valid(limits)
