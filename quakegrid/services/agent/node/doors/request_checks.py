"""Checks requests to the agent where they come in: calls on its port, lines on its unix socket.

Pure. Each check raises `UsageError` with a message for the caller. The agent may still refuse a request that
passed the checks, but such a request cannot harm the agent or its template.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterable
from typing import Any

from quakegrid.errors import UsageError
from quakegrid.internal.v1 import examination_pb2, orders_pb2
from quakegrid.machine import process_limits
from quakegrid.notify import targets
from quakegrid.settings.conversions import MAX_PORT

# More than any node has.
MAX_WORKERS = 4096
MAX_REF_BYTES = 1024
MAX_STOP_BYTES = 1 << 20
MAX_WIDTH = 1 << 16
MAX_FINGERPRINT = 1000
MAX_ENDPOINT_CHARS = 300
KEY_CHARS = 40
MAX_PORTS = 1000
MAX_PATH_BYTES = 4096
MAX_NAMES = 500
MAX_NAME_CHARS = 256
MAX_HOST_CHARS = 253
MAX_PERSON_CHARS = 256
# The bounds of a driver's request: the kernel starts no program with more.
MAX_ARGUMENTS = 10_000
MAX_VARIABLES = 10_000
MAX_STRING_BYTES = 128 << 10
MAX_SIGNAL_BYTES = 256
MODES = ("oq", "run")
PASSED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGWINCH)
# The name of a worker also becomes the name of a cgroup's folder.
_WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)
_ENDPOINT = re.compile(r"tcp://[!-~]+:[0-9]{1,5}", re.ASCII)
_MASTER = re.compile(r"[!-~]+?(:(?P<port>[0-9]{1,5}))?", re.ASCII)


def check_start_workers(request: orders_pb2.StartWorkersRequest) -> None:
    """Check what the broker sends."""
    _check(len(request.workers) <= MAX_WORKERS, f"more than {MAX_WORKERS} workers at once")
    for ref in request.workers:
        _check_id(ref.worker_id)
        _check(ref.session_id >= 0, "a session id below 0")
        _check(ref.ByteSize() <= MAX_REF_BYTES, "too much about a worker")
    _check(request.width <= MAX_WIDTH, f"workers of {request.width} cores")
    _check(len(request.fingerprint) <= MAX_FINGERPRINT, "a fingerprint with too many names")
    keys = request.lane_keys
    for key in (keys.server_public, keys.client_public, keys.client_secret):
        _check(len(key) == KEY_CHARS, "no keys of a lane, as brokers of this version send them")
    _check(len(request.person) <= MAX_PERSON_CHARS, "a person's name that is too long")
    endpoint = request.lane_endpoint
    _check(
        len(endpoint) <= MAX_ENDPOINT_CHARS and _ENDPOINT.fullmatch(endpoint),
        f"no lane is at {endpoint[:60]!r}; give tcp://host:port",
    )


def check_stop_workers(request: orders_pb2.StopWorkersRequest) -> None:
    """Check what the broker sends."""
    _check(len(request.worker_ids) <= MAX_WORKERS, f"more than {MAX_WORKERS} workers at once")
    _check(request.ByteSize() <= MAX_STOP_BYTES, "an order that is too long")
    for worker_id in request.worker_ids:
        _check_id(worker_id)


def check_examine(request: examination_pb2.ExamineRequest) -> None:
    """Check what a doctor sends."""
    path = request.shared_dir
    _check("\0" not in path and len(path.encode()) <= MAX_PATH_BYTES, "that is no name of a folder")
    _check(len(request.lane_ports) <= MAX_PORTS, f"more than {MAX_PORTS} ports")
    _check(all(1 <= port <= MAX_PORT for port in request.lane_ports), "a port that is none")
    names = request.account_names
    _check(len(names) <= MAX_NAMES, f"more than {MAX_NAMES} names of accounts")
    _check(
        all("\0" not in name and len(name) <= MAX_NAME_CHARS for name in names), "a name that no account has"
    )


def check_master(master: str) -> None:
    """Check the name of a master, with or without a port."""
    found = _MASTER.fullmatch(master) if len(master) <= MAX_HOST_CHARS + len(":65535") else None
    is_port = found is not None and 1 <= int(found["port"] or 1) <= MAX_PORT
    _check(is_port, f"no master is called {master[:60]!r}; give a host, or host:port")


def read_driver_request(line: bytes) -> dict[str, Any]:
    """The request of a command line for a driver, with the fields of `clients.drivers.DriverRequest`.

    A command line of an older release knows neither `is_detachable`, `notify` nor `limits`, and takes its
    driver along when it goes. Only services send `for_person`.
    """
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("the request is no JSON") from None
    _check(isinstance(request, dict), "the request is no object")
    argv, environ = request.get("argv"), request.get("environ")
    _check(isinstance(argv, list) and len(argv) <= MAX_ARGUMENTS, "the request has no list of arguments")
    _check(isinstance(environ, dict) and len(environ) <= MAX_VARIABLES, "the request has no environment")
    _check_strings("an argument", argv)
    _check_strings("a variable of the environment", [*environ, *environ.values()])
    _check(not any("=" in name or not name for name in environ), "a variable's name has a = or is empty")
    _check_strings("the folder", [request.get("cwd")])
    _check(request.get("mode") in MODES, f"the mode is none of {', '.join(MODES)}")
    limits = request.get("limits", {})
    _check(process_limits.is_valid(limits), "the limits are none")
    is_detachable = request.get("is_detachable", False)
    _check(isinstance(is_detachable, bool), "whether the driver is detachable is neither true nor false")
    _check(not is_detachable or request["mode"] == "run", "a driver with a terminal cannot be detached")
    notify = request.get("notify", [])
    _check(isinstance(notify, list) and len(notify) <= targets.MAX_TARGETS, "too many notifications")
    _check_strings("a notification", notify)
    for_person = request.get("for_person", "")
    _check_strings("the person's name", [for_person])
    _check(len(for_person) <= MAX_PERSON_CHARS, "a person's name that is too long")
    _check(not for_person or request["mode"] == "run", "a driver for another person has no terminal")
    fields = {name: request[name] for name in ("argv", "cwd", "environ", "mode")} | {"limits": limits}
    fields |= {"is_detachable": is_detachable, "notify": list(map(targets.check, notify))}
    return fields | {"for_person": for_person}


def read_signal(line: bytes) -> int:
    """The signal that a line asks to pass on to a driver."""
    try:
        number = json.loads(line)["signal"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UsageError("a line names no signal") from None
    _check(type(number) is int and number in PASSED_SIGNALS, "a signal that is not passed on to drivers")
    return int(number)


def _check(is_so: object, otherwise: str) -> None:
    if not is_so:
        raise UsageError(otherwise)


def _check_id(worker_id: str) -> None:
    _check(_WORKER_ID.fullmatch(worker_id), f"no worker is called {worker_id[:60]!r}")


def _check_strings(what: str, values: Iterable[Any]) -> None:
    for value in values:
        _check(isinstance(value, str), f"{what} is no text")
        size = len(value.encode(errors="surrogatepass"))
        _check("\0" not in value and size <= MAX_STRING_BYTES, f"{what} is too long, or has a zero byte")
