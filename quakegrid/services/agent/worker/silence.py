"""Says in the job's log that workers of a node do not reach their lane, and why: one of them for all.

A look at the lane's port takes CPU, and more so when a thousand workers start at once on a busy machine. It
goes by way of the worker's stderr, which the agent passes on.
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from quakegrid.services.agent.orders import WorkerSpec
from quakegrid.transport.fast_zmq import zmq

# A lane says hello at once; one that starts, or is started again, takes some seconds.
SILENCE_MS = 10_000


def warn_of_silence(dealer: zmq.Socket[bytes], spec: WorkerSpec) -> None:
    """Wait for the lane's hello; if it takes long, say so and go on waiting, unless another worker did."""
    if dealer.poll(SILENCE_MS):
        return
    told = Path(spec.blob_dir) / "silence"  # the folder of the session on this node
    if not _is_first(told):
        return
    print(_describe(spec), file=sys.stderr, flush=True)
    dealer.poll()
    told.unlink(missing_ok=True)  # the next silence is told again


def _is_first(told: Path) -> bool:
    """Whether no other worker of the session on this node has told."""
    try:
        os.close(os.open(told, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except OSError:  # no room, or the session ends
        return True
    return True


def _describe(spec: WorkerSpec) -> str:
    """What keeps the node from its lane, in words."""
    from quakegrid.doctor import probes  # noqa: PLC0415 - seldom needed
    from quakegrid.doctor.checks import network_checks  # noqa: PLC0415 - seldom needed
    from quakegrid.doctor.facts import PortFacts  # noqa: PLC0415 - seldom needed

    host, _, number = spec.lane_endpoint.removeprefix("tcp://").rpartition(":")
    port = PortFacts("lane", host, int(number))
    finding = network_checks.check_port(replace(port, state=probes.look_at_port(port, None)), spec.node)
    return f"node {spec.node} gets no tasks: {finding.what} (`quakegrid doctor` on the master tells more)"
