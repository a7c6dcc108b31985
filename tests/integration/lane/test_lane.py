"""A real lane process: tasks and outcomes over CURVE, and what strangers and garbage get."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.internal.v1 import orders_pb2
from quakegrid.services.agent.worker.inbox import Inbox
from quakegrid.settings import config, lane_secrets
from quakegrid.transport import lane_names, lane_sockets
from quakegrid.transport.fast_zmq import zmq
from quakegrid.transport.keys import lane_keys
from quakegrid.wire.v1 import lane_pb2

SESSION = 5
WAIT_MS = 20_000
BLOB_ID = b"0123456789abcdef"


@dataclass
class RunningLane:
    """A lane process, our end of its control socket, and a context for peers."""

    settings: config.Settings
    state_dir: Path
    control: socket.socket
    process: subprocess.Popen[bytes]
    context: zmq.Context[zmq.Socket[bytes]]
    endpoint: str
    peers: list[zmq.Socket[bytes]] = field(default_factory=list)

    @property
    def token_key(self) -> bytes:
        """Of the broker that this lane believes to have."""
        return lane_keys.token_key(lane_secrets.of_broker(self.settings.state_dir))

    def peer(self, name: bytes, secret: str | None = None) -> zmq.Socket[bytes]:
        """A connected peer."""
        door = lane_keys.curve_keys(secret or lane_secrets.of_broker(self.settings.state_dir)).door
        self.peers.append(lane_sockets.connect_dealer(self.context, self.endpoint, door, name))
        return self.peers[-1]

    def worker(self, worker_id: str) -> zmq.Socket[bytes]:
        """A connected peer that is a worker."""
        token = lane_keys.worker_token(self.token_key, SESSION, worker_id)
        return self.peer(lane_names.worker_name(SESSION, worker_id, token))

    def driver(self, session_id: int = SESSION) -> zmq.Socket[bytes]:
        """A connected peer that is a driver."""
        token = lane_keys.session_token(self.token_key, session_id)
        return self.peer(lane_names.driver_name(session_id, token))

    def inbox(self, worker_id: str) -> Inbox:
        """A worker."""
        return Inbox(self.worker(worker_id), SESSION, worker_id, "node")

    def kill_and_start_again(self, *worker_ids: str) -> None:
        """A lane that knows nothing takes the place of this one."""
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.process, self.control = start(self.settings, self.state_dir, *worker_ids)

    def tell(self, message: lane_pb2.ControlMessage) -> None:
        """Play the broker."""
        self.control.send(message.SerializeToString())


def start(
    settings: config.Settings, state_dir: Path, *worker_ids: str
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """A lane process that listens and has one open session, and the broker's end of its control socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    endpoint = f"tcp://127.0.0.1:{settings.lane_ports[0]}"
    arguments = ["--state-dir", state_dir, "--control-fd", str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "quakegrid.services.lane", *arguments],
            pass_fds=[theirs.fileno()],
            env=testing.isolated_environ(state_dir),
        )
    ours.send(lane_pb2.ControlMessage(listen=lane_pb2.Listen(endpoint=endpoint)).SerializeToString())
    ready = lane_pb2.ControlMessage.FromString(ours.recv(1 << 16))
    assert ready.HasField("ready"), ready
    assert ready.ready.error == ""
    opening = lane_pb2.OpenLaneSession(session_id=SESSION, max_attempts=2)
    ours.send(lane_pb2.ControlMessage(open=opening).SerializeToString())
    workers = lane_pb2.SessionWorkers(session_id=SESSION, worker_ids=worker_ids, is_last=True)
    ours.send(lane_pb2.ControlMessage(workers=workers).SerializeToString())
    return process, ours


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningLane]:
    """A lane with one open session."""
    testing.write_cluster_config(tmp_path, {"broker": {"lane_memory": "1M"}})
    settings = config.load_settings(tmp_path, testing.isolated_environ(tmp_path))
    process, ours = start(settings, tmp_path)
    endpoint = f"tcp://127.0.0.1:{settings.lane_ports[0]}"
    found = RunningLane(settings, tmp_path, ours, process, zmq.Context(), endpoint)
    try:
        yield found
    finally:
        for peer in found.peers:
            peer.close(linger=0)
        found.context.term()
        found.control.close()  # ends the lane
        assert found.process.wait(20) == 0


def send(peer: zmq.Socket[bytes], message: lane_pb2.LaneMessage, *payload: bytes) -> None:
    """Send a message of the lanes."""
    peer.send_multipart([message.SerializeToString(), *payload])


def receive(peer: zmq.Socket[bytes]) -> tuple[lane_pb2.LaneMessage, list[bytes]]:
    """Receive one; fails if none comes."""
    assert peer.poll(WAIT_MS), "nothing came"
    header, *payload = peer.recv_multipart()
    return lane_pb2.LaneMessage.FromString(header), payload


def greet(peer: zmq.Socket[bytes]) -> None:
    """A peer with a new connection answers the probe, and the lane says hello."""
    assert peer.poll(WAIT_MS), "no connection"
    assert peer.recv_multipart() == [lane_sockets.PROBE]
    peer.send(lane_sockets.PROBE)
    hello, _ = receive(peer)
    assert hello.hello.protocol_version == lane_sockets.PROTOCOL_VERSION


def join(running: RunningLane) -> zmq.Socket[bytes]:
    """A driver of the session."""
    driver = running.driver()
    greet(driver)
    say_join(driver)
    assert receive(driver)[0].joined.session_id == SESSION
    return driver


def say_join(driver: zmq.Socket[bytes], session_id: int = SESSION) -> None:
    """A driver has told all its tasks."""
    greeting = lane_pb2.Join(protocol_version=lane_sockets.PROTOCOL_VERSION, session_id=session_id)
    send(driver, lane_pb2.LaneMessage(join=greeting))


def work(running: RunningLane, name: str) -> zmq.Socket[bytes]:
    """A worker of the session."""
    worker = running.worker(name)
    greet(worker)
    say_ready(worker, name)
    return worker


def say_ready(worker: zmq.Socket[bytes], name: str) -> None:
    """A worker says that it has nothing."""
    ready = lane_pb2.WorkerReady(
        protocol_version=lane_sockets.PROTOCOL_VERSION,
        session_id=SESSION,
        worker_id=name,
        node="node",
    )
    send(worker, lane_pb2.LaneMessage(worker_ready=ready))


def counts(running: RunningLane) -> lane_pb2.LaneCounts:
    """The lane's next report."""
    running.control.settimeout(WAIT_MS / 1000)
    return lane_pb2.ControlMessage.FromString(running.control.recv(1 << 16)).counts


def submit(driver: zmq.Socket[bytes], task_id: int, payload: bytes) -> None:
    """Submit a task."""
    task = lane_pb2.SubmitTask(session_id=SESSION, task_id=task_id, weight=1, operation="op")
    send(driver, lane_pb2.LaneMessage(submit_task=task), payload)


def finish(worker: zmq.Socket[bytes], name: str, lease: lane_pb2.Lease, *frames: bytes) -> None:
    """Send an outcome."""
    outcome = lane_pb2.Outcome(lease=lease, worker_id=name, node="node", duration_s=0.1)
    send(worker, lane_pb2.LaneMessage(outcome=outcome), *frames)


def test_task_goes_to_a_worker_and_its_outcome_comes_back_whole(running: RunningLane) -> None:
    """Frames arrive as they were sent, large ones too."""
    driver, worker = join(running), work(running, "w1")
    large = bytes(range(256)) * 40_000

    submit(driver, 1, b"payload")
    order, payload = receive(worker)
    finish(worker, "w1", order.run_task.lease, b"first", large)
    message, frames = receive(driver)

    assert payload == [b"payload"]
    assert message.outcome.lease.task_id == 1
    assert frames == [b"first", large]


def test_task_of_a_lost_worker_runs_elsewhere_and_the_late_outcome_is_dropped(running: RunningLane) -> None:
    """The driver gets one outcome, that of the second attempt, and hears what the first one ended by."""
    driver, first = join(running), work(running, "w1")
    submit(driver, 1, b"payload")
    order, _ = receive(first)

    lost = orders_pb2.WorkerEnd(
        session_id=SESSION, worker_id="w1", reason="node lost", node="n1", last_output=["help", "me"]
    )
    running.tell(lane_pb2.ControlMessage(worker_lost=lost))
    second = work(running, "w2")
    again, payload = receive(second)
    finish(first, "w1", order.run_task.lease, b"late")
    finish(second, "w2", again.run_task.lease, b"right")
    died, _ = receive(driver)
    _, frames = receive(driver)

    assert (again.run_task.lease.attempt, payload) == (2, [b"payload"])
    assert (died.worker_died.end.worker_id, died.worker_died.end.node) == ("w1", "n1")
    assert died.worker_died.lease == order.run_task.lease
    assert list(died.worker_died.end.last_output) == ["help", "me"]
    assert frames == [b"right"]
    assert driver.poll(0) == 0


def test_peer_with_another_secret_is_never_heard(running: RunningLane) -> None:
    """Its tasks reach no worker; those of the cluster do."""
    stranger = running.peer(b"stranger", "another-key-of-good-length")
    driver, worker = join(running), work(running, "w1")
    stranger.send(lane_sockets.PROBE)
    submit(stranger, 1, b"evil")

    submit(driver, 2, b"good")
    order, payload = receive(worker)

    assert (order.run_task.lease.task_id, payload) == (2, [b"good"])
    assert stranger.poll(0) == 0


def test_garbage_on_the_port_and_in_messages_disturbs_nobody(running: RunningLane) -> None:
    """Raw bytes, and malformed messages of a peer that holds the key."""
    host, port = running.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n" * 100)
    driver, worker = join(running), work(running, "w1")
    driver.send_multipart([b"\xff\xff\xff not protobuf"])
    driver.send_multipart([b"", b"", b""])
    send(driver, lane_pb2.LaneMessage(stop=lane_pb2.Stop()))

    submit(driver, 1, b"payload")
    order, _ = receive(worker)
    words = [receive(driver)[0].refused.reason for _ in range(2)]

    assert order.run_task.lease.task_id == 1
    assert all(words)


def test_peer_of_another_protocol_version_is_refused(running: RunningLane) -> None:
    """A worker of another time gets no task, but a word."""
    driver, old = join(running), running.worker("old")
    greet(old)
    ready = lane_pb2.WorkerReady(protocol_version=99, session_id=SESSION, worker_id="old")
    send(old, lane_pb2.LaneMessage(worker_ready=ready))
    worker = work(running, "w1")

    submit(driver, 1, b"payload")

    assert receive(worker)[0].run_task.lease.task_id == 1
    assert "version 99" in receive(old)[0].refused.reason


def test_driver_of_a_session_that_is_not_open_is_refused(running: RunningLane) -> None:
    """It gets a word, not silence."""
    driver = running.driver(99)
    greet(driver)

    say_join(driver, 99)
    refused = receive(driver)[0].refused

    assert "session 99" in refused.reason
    assert refused.is_unknown_session


def test_blob_goes_to_who_asks_also_before_it_is_there(running: RunningLane) -> None:
    """A task names its blobs; a worker gets one as often as it asks."""
    driver, worker = join(running), work(running, "w1")
    get = lane_pb2.LaneMessage(get_blob=lane_pb2.GetBlob(session_id=SESSION, blob_id=BLOB_ID))
    ref = lane_pb2.BlobRef(place=1, blob_id=BLOB_ID, byte_count=7)
    task = lane_pb2.SubmitTask(session_id=SESSION, task_id=1, operation="op", blobs=[ref])

    send(worker, get)
    send(driver, lane_pb2.LaneMessage(submit_task=task), b"payload")
    order, _ = receive(worker)
    send(
        driver,
        lane_pb2.LaneMessage(put_blob=lane_pb2.PutBlob(session_id=SESSION, blob_id=BLOB_ID)),
        b"content",
    )
    first = receive(worker)
    send(worker, get)

    assert list(order.run_task.blobs) == [ref]
    assert [(message.blob.blob_id, frames) for message, frames in (first, receive(worker))] == [
        (BLOB_ID, [b"content"])
    ] * 2


def test_worker_that_is_told_hello_keeps_what_it_holds(running: RunningLane) -> None:
    """After a broken connection both say what they have; nothing runs twice, nothing is lost."""
    driver, worker = join(running), work(running, "w1")
    submit(driver, 1, b"payload")
    order, _ = receive(worker)
    worker.disconnect(running.endpoint)
    worker.connect(running.endpoint)

    greet(worker)
    lease = order.run_task.lease
    ready = lane_pb2.WorkerReady(
        protocol_version=lane_sockets.PROTOCOL_VERSION,
        session_id=SESSION,
        worker_id="w1",
        node="node",
        held=[lease],
    )
    send(worker, lane_pb2.LaneMessage(worker_ready=ready))
    finish(worker, "w1", lease, b"outcome")

    assert receive(driver)[1] == [b"outcome"]


def test_lane_counts_no_outcomes_of_a_worker_that_is_to_tell_what_it_has(running: RunningLane) -> None:
    """It would take the count for that of the outcomes that it sends again. Nor does it get a task."""
    driver, worker = join(running), work(running, "w1")
    for task_id in (1, 2, 3):
        submit(driver, task_id, b"payload")
    first, _ = receive(worker)
    finish(worker, "w1", first.run_task.lease, b"outcome")
    second, _ = receive(worker)

    worker.send(lane_sockets.PROBE)
    hello, _ = receive(worker)
    finish(worker, "w1", second.run_task.lease, b"outcome")
    assert [receive(driver)[0].WhichOneof("body") for _ in range(2)] == ["outcome", "outcome"]
    before = worker.poll(0)
    say_ready(worker, "w1")
    third, _ = receive(worker)

    assert before == 0
    assert hello.HasField("hello")
    assert [order.run_task.outcome_count for order in (first, second, third)] == [0, 1, 0]


def test_lane_that_was_killed_learns_from_its_peers_what_it_had(running: RunningLane) -> None:
    """A task that runs meanwhile is not run again: its worker says that it has it, while it works."""
    driver = join(running)
    inbox = running.inbox("w1")
    submit(driver, 1, b"payload")
    submit(driver, 2, b"waits")
    task = inbox.next_task()
    assert task is not None

    with inbox.guarded():
        running.kill_and_start_again("w1")
        greet(driver)
        submit(driver, 1, b"payload")
        submit(driver, 2, b"waits")
        say_join(driver)
        while counts(running).running_count != 1:
            pass
    inbox.send_outcome(lane_pb2.Outcome(lease=task.run.lease, worker_id="w1", node="node"), [b"done"])
    assert receive(driver)[0].HasField("joined")
    message, frames = receive(driver)
    following = inbox.next_task()

    assert (message.outcome.lease.task_id, message.outcome.lease.attempt, frames) == (1, 1, [b"done"])
    assert following is not None
    assert bytes(following.frames[0].buffer) == b"waits"


def test_outcome_sent_while_there_was_no_lane_is_delivered_by_the_next(running: RunningLane) -> None:
    """A worker keeps an outcome until it knows that the lane has it."""
    driver = join(running)
    inbox = running.inbox("w1")
    submit(driver, 1, b"payload")
    task = inbox.next_task()
    assert task is not None

    running.process.kill()
    running.process.wait()
    inbox.send_outcome(lane_pb2.Outcome(lease=task.run.lease, worker_id="w1", node="node"), [b"done"])
    running.kill_and_start_again("w1")
    greet(driver)
    submit(driver, 1, b"payload")
    submit(driver, 2, b"next")
    say_join(driver)
    following = inbox.next_task()

    assert following is not None
    assert following.run.lease.task_id == 2
    assert receive(driver)[0].HasField("joined")
    assert receive(driver)[1] == [b"done"]


def test_waiting_task_is_taken_back_from_a_worker_that_is_busy_for_long(running: RunningLane) -> None:
    """The worker answers while its task runs; the other one gets what waited."""
    driver = join(running)
    busy = running.inbox("w1")
    for task_id in (1, 2):
        task = lane_pb2.SubmitTask(session_id=SESSION, task_id=task_id, operation="op", expected_s=0.01)
        send(driver, lane_pb2.LaneMessage(submit_task=task), b"payload")
    first = busy.next_task()
    assert first is not None

    with busy.guarded():
        idle = running.inbox("w2")
        second = idle.next_task()

    assert second is not None
    assert (first.run.lease.task_id, second.run.lease.task_id) == (1, 2)
    assert second.run.lease.attempt == 2


def test_payloads_beyond_the_memory_bound_arrive_whole(running: RunningLane) -> None:
    """What waits goes to the disk; the worker does not see the difference."""
    driver = join(running)
    contents = {task_id: bytes([task_id]) * 700_000 for task_id in range(1, 5)}
    for task_id, content in contents.items():
        submit(driver, task_id, content)
    worker = work(running, "w1")

    found = {}
    for _ in contents:
        order, payload = receive(worker)
        found[order.run_task.lease.task_id] = payload[0]
        finish(worker, "w1", order.run_task.lease)

    assert found == contents


def test_driver_that_does_not_read_costs_a_bounded_amount(running: RunningLane) -> None:
    """Outcomes wait at the lane until it tells that it took the earlier ones."""
    driver, worker = join(running), work(running, "w1")
    size = lane_sockets.FLOW_BYTES // 4
    count = 6
    for task_id in range(1, count + 1):
        submit(driver, task_id, b"payload")
        finish(worker, "w1", receive(worker)[0].run_task.lease, bytes(size))
    # Whatever is said to the lane later is heard after all that.
    driver.send_multipart([b"\xff"])
    first = []
    while (message := receive(driver))[0].HasField("outcome"):
        first.append(message)

    received = lane_pb2.Received(session_id=SESSION, byte_count=sum(len(frames[0]) for _, frames in first))
    send(driver, lane_pb2.LaneMessage(received=received))
    rest = [receive(driver) for _ in range(count - len(first))]

    assert 0 < len(first) < count
    assert [message.outcome.lease.task_id for message, _ in (*first, *rest)] == list(range(1, count + 1))


def test_second_connection_cannot_take_over_another_s_name(running: RunningLane) -> None:
    """Who has the cluster's key but no token of the session is refused; the driver goes on undisturbed."""
    driver, worker = join(running), work(running, "w1")
    strangers = [running.peer(name) for name in (b"driver 5", b"driver 5 " + b"0" * 64, b"w1")]
    for stranger in strangers:
        greet(stranger)
        say_join(stranger)
        submit(stranger, 2, b"evil")
        assert [receive(stranger)[0].HasField("refused") for _ in range(2)] == [True, True]

    submit(driver, 1, b"good")
    order, payload = receive(worker)
    finish(worker, "w1", order.run_task.lease, b"result")

    assert payload == [b"good"]
    assert receive(driver)[1] == [b"result"]
    assert driver.poll(0) == worker.poll(0) == 0
