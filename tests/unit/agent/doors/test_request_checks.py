"""What the agent refuses at its doors, in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from quakegrid.errors import UsageError
from quakegrid.internal.v1 import examination_pb2, orders_pb2
from quakegrid.services.agent.node.doors import request_checks as checks
from quakegrid.services.broker.lanes import door_keys

LANE_KEYS = door_keys.of_broker("x" * 32)
REQUEST = {
    "argv": ["info"],
    "cwd": "/",
    "environ": {"A": "b"},
    "mode": "oq",
    "limits": {},
    "is_detachable": False,
    "notify": [],
    "for_person": "",
}


def start(worker_id: str = "a1-7", session_id: int = 3, **fields: Any) -> orders_pb2.StartWorkersRequest:
    """An order of the broker."""
    ref = orders_pb2.WorkerRef(session_id=session_id, worker_id=worker_id)
    return orders_pb2.StartWorkersRequest(
        **{"workers": [ref], "lane_endpoint": "tcp://10.0.0.1:1912", "width": 1, "lane_keys": LANE_KEYS}
        | fields
    )


def test_orders_of_a_broker_pass() -> None:
    """As brokers send them."""
    checks.check_start_workers(start())
    checks.check_start_workers(start(lane_endpoint="tcp://[::1]:1912", width=0, workers=[]))
    checks.check_stop_workers(orders_pb2.StopWorkersRequest(session_id=3, worker_ids=["a1-7"]))


@pytest.mark.parametrize(
    "request_",
    [
        start(""),
        start("x" * 70_000),
        start("../../x"),
        start("a\nb"),
        start("ä"),
        start(session_id=-1),
        start(width=(1 << 32) - 1),
        start(lane_endpoint=""),
        start(lane_endpoint="ipc:///tmp/x"),
        start(lane_endpoint="tcp://" + "x" * 1000 + ":1"),
        start(fingerprint={str(number): "" for number in range(2000)}),
        start(workers=[orders_pb2.WorkerRef(worker_id="a")] * 5000),
        start(lane_keys=orders_pb2.LaneKeys()),
        start(lane_keys=orders_pb2.LaneKeys(server_public="x" * 1000)),
    ],
)
def test_orders_that_no_broker_sends_are_refused(request_: orders_pb2.StartWorkersRequest) -> None:
    """Ids, counts, widths and addresses."""
    with pytest.raises(UsageError):
        checks.check_start_workers(request_)


def test_stopping_a_worker_of_an_odd_name_is_refused() -> None:
    """It cannot have been started."""
    for names in (["x" * 1000], [""], ["a"] * 5000):
        with pytest.raises(UsageError):
            checks.check_stop_workers(orders_pb2.StopWorkersRequest(worker_ids=names))


def test_examinations_of_odd_folders_and_ports_are_refused() -> None:
    """As a doctor never asks."""
    checks.check_examine(examination_pb2.ExamineRequest(shared_dir="/home", lane_ports=[1912]))

    for bad in (
        examination_pb2.ExamineRequest(shared_dir="a\0b"),
        examination_pb2.ExamineRequest(shared_dir="x" * 5000),
        examination_pb2.ExamineRequest(lane_ports=[70_000]),
        examination_pb2.ExamineRequest(lane_ports=[1] * 2000),
    ):
        with pytest.raises(UsageError):
            checks.check_examine(bad)


@pytest.mark.parametrize("master", ["", "a b", "a\0b", "x" * 300, "m:0", "m:70000", "m:99999"])
def test_masters_that_are_no_hosts_are_refused(master: str) -> None:
    """With the port that they may have."""
    for good in ("master", "10.0.0.1", "master.example.org:1911"):
        checks.check_master(good)

    with pytest.raises(UsageError):
        checks.check_master(master)


def test_request_for_a_driver_passes_with_its_fields_only() -> None:
    """Other fields do not travel further."""
    limits = {"umask": [0o027], "open_files": [1024, 4096]}
    line = json.dumps(REQUEST | {"more": [1]}).encode()

    assert checks.read_driver_request(line) == REQUEST
    with_limits = json.dumps(REQUEST | {"limits": limits}).encode()
    assert checks.read_driver_request(with_limits) == REQUEST | {"limits": limits}


def test_request_of_an_older_command_line_is_not_detachable() -> None:
    """It counts on the end of its driver when it goes."""
    old = {name: value for name, value in REQUEST.items() if name != "is_detachable"}

    assert checks.read_driver_request(json.dumps(old).encode()) == REQUEST


def test_driver_that_sends_events_may_be_detachable() -> None:
    """As `quakegrid run` asks."""
    wanted = REQUEST | {"mode": "run", "is_detachable": True}

    assert checks.read_driver_request(json.dumps(wanted).encode()) == wanted


def test_driver_may_be_for_a_person() -> None:
    """As the web service asks; whether it may is not checked here."""
    wanted = REQUEST | {"mode": "run", "for_person": "anna"}

    assert checks.read_driver_request(json.dumps(wanted).encode()) == wanted


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"[]",
        b"7",
        b"[" * 100_000,
        *(
            json.dumps(REQUEST | changes).encode()
            for changes in (
                {"argv": [1]},
                {"argv": "info"},
                {"argv": ["a\0b"]},
                {"argv": ["a"] * 20_000},
                {"argv": ["x" * (1 << 18)]},
                {"cwd": None},
                {"cwd": 7},
                {"environ": []},
                {"environ": {"A": 1}},
                {"environ": {"A=B": "c"}},
                {"environ": {"": "c"}},
                {"mode": "shell"},
                {"mode": None},
                {"is_detachable": 1},
                {"is_detachable": True},  # with a terminal
                {"for_person": "anna"},  # with a terminal
                {"for_person": 7, "mode": "run"},
                {"for_person": "a\0b", "mode": "run"},
                {"for_person": "a" * 300, "mode": "run"},
            )
        ),
    ],
)
def test_requests_that_no_command_line_sends_are_refused(line: bytes) -> None:
    """Types, sizes, depth."""
    with pytest.raises(UsageError):
        checks.read_driver_request(line)


def test_only_signals_of_a_terminal_are_passed_on() -> None:
    """Another number is refused before it reaches the template."""
    assert checks.read_signal(b'{"signal": 2}') == 2

    for line in (b'{"signal": 12345}', b'{"signal": 9}', b'{"signal": true}', b"{}", b"7", b"x", b"[" * 9999):
        with pytest.raises(UsageError):
            checks.read_signal(line)
