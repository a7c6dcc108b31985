"""A task that describes the worker that runs it. Workers import this module, so it is light."""

from __future__ import annotations

import datetime
import os
import socket
import time
from dataclasses import dataclass

from quakegrid.doctor.facts import Versions
from quakegrid.doctor.installed import own_versions
from quakegrid.doctor.nonces import read_nonce


@dataclass(frozen=True, slots=True)
class CoreAnswer:
    """A worker's answer: its node, cores and versions, and when the task began and ended by its clock."""

    node: str
    pid: int
    cores: tuple[int, ...]
    versions: Versions
    nonce: str
    receive_time: datetime.datetime
    send_time: datetime.datetime


def describe_core(shared_dir: str, nonce_name: str, hold_s: float) -> CoreAnswer:
    """Describe this worker, after holding its core for a while, so that other tasks go to other workers."""
    receive_time = datetime.datetime.now(datetime.UTC)
    time.sleep(hold_s)
    return CoreAnswer(
        node=socket.gethostname(),
        pid=os.getpid(),
        cores=tuple(sorted(os.sched_getaffinity(0))),
        versions=own_versions(),
        nonce=read_nonce(shared_dir, nonce_name),
        receive_time=receive_time,
        send_time=datetime.datetime.now(datetime.UTC),
    )
