"""A program that submits without end waits, and what ends its wait; sessions are played by hand."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any

import numpy as np
import pytest

from quakegrid import ClusterExecutor
from quakegrid.sdk import futures
from quakegrid.sdk import sender as sender_module
from quakegrid.sdk import unsent as subject
from quakegrid.sdk.sender import MOVES, BrokenClusterError, Sender, SenderState
from quakegrid.sdk.unsent import PendingLimit
from quakegrid.session.lane_tasks import LaneOutcome, LaneTask
from tests.unit.sdk.test_sender import FAILURE, PlayedSession

WAIT_S = 60.0
LIMIT = 50
MIB = 1 << 20


class HeldSession(PlayedSession):
    """A session whose workers end chunks when the test lets them."""

    def __init__(self) -> None:
        super().__init__()
        self._held: list[LaneOutcome] = []
        self._lock = threading.Lock()
        self.is_held = True

    def submit(self, frames: Any, task: LaneTask, digests: object = None) -> int:
        """Run a chunk, and keep its outcome."""
        with self._lock:
            task_id = super().submit(frames, task, digests)
            if self.is_held:
                self._held += self._outcomes
                self._outcomes.clear()
            return task_id

    def let_go(self, count: int = 10**9) -> None:
        """So many chunks end; without a number all of them, and all that come."""
        with self._lock:
            self.is_held = count < 10**9
            self._outcomes += self._held[:count]
            del self._held[:count]
        self.wake()


class SleepingSession(HeldSession):
    """Its executor takes no call until the test wakes it up."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps, self.awake = threading.Event(), threading.Event()

    def wait(self) -> None:
        """Sleep on."""
        self.sleeps.set()
        assert self.awake.wait(WAIT_S)
        super().wait()


def executor_on(session: PlayedSession, max_pending: int = LIMIT) -> ClusterExecutor:
    """An executor without a cluster."""
    found = ClusterExecutor.__new__(ClusterExecutor)
    found._sender = Sender(session, 2, None, max_pending)  # type: ignore[arg-type]
    return found


@pytest.fixture
def session() -> HeldSession:
    """Its workers are busy."""
    return HeldSession()


@pytest.fixture
def executor(session: HeldSession) -> Iterator[ClusterExecutor]:
    """With this session; ends with the test."""
    found = executor_on(session)
    yield found
    session.let_go()
    found.terminate_workers()
    found._sender.thread.join(WAIT_S)


class Submitter:
    """A thread of a program that submits calls without end."""

    def __init__(self, executor: ClusterExecutor, count: int = 10**9, submit: Any = None) -> None:
        self.futures: list[Future[Any]] = []
        self.failure: BaseException | None = None
        self.most = 0
        self._executor, self._count, self._submit = executor, count, submit or executor.submit
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            for number in range(self._count):
                self.futures.append(self._submit(pow, number, 2))
                self.most = max(self.most, self._executor.pending_count)
        except BaseException as exc:  # noqa: BLE001 - the test looks at it
            self.failure = exc

    def join(self) -> None:
        """It has submitted everything, or failed."""
        self.thread.join(WAIT_S)
        assert not self.thread.is_alive()


def until(condition: Callable[[], bool], within_s: float = WAIT_S) -> None:
    """Wait for it."""
    end_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.001)


def until_waiting(executor: ClusterExecutor, count: int = 1) -> None:
    """Wait until so many threads wait for room."""
    until(lambda: executor._sender.shared.waiter_count == count)


def test_program_that_submits_without_end_waits_at_the_limit(
    executor: ClusterExecutor, session: HeldSession
) -> None:
    """And goes on as results come, all of which are right."""
    program = Submitter(executor, 5000)
    until_waiting(executor)
    stood_at = len(program.futures)

    session.let_go()
    program.join()

    assert stood_at == LIMIT
    assert program.most <= LIMIT
    assert [future.result(WAIT_S) for future in program.futures] == [n * n for n in range(5000)]
    until(lambda: executor.pending_count == 0)


def test_each_result_makes_room_for_as_many_calls(executor: ClusterExecutor, session: HeldSession) -> None:
    """No result is lost sight of: the count is exact whatever way a call went."""
    program = Submitter(executor)
    until_waiting(executor)
    for _ in range(20):
        before = len(program.futures)
        until(lambda: bool(session._held))
        session.let_go(1)
        until(lambda before=before: len(program.futures) > before)  # type: ignore[misc]
        until(lambda: executor.pending_count == LIMIT)
        until_waiting(executor)
        assert sum(not future.done() for future in program.futures) == LIMIT


def test_weighted_calls_count_too(executor: ClusterExecutor, session: HeldSession) -> None:
    """Those that wait in their order, and those that were cancelled there."""
    program = Submitter(
        executor, 200, lambda function, *args: executor.submit_weighted(args[0] + 1.0, function, *args)
    )
    until_waiting(executor)
    dropped = [future for future in program.futures if future.cancel()]

    session.let_go()
    program.join()

    assert program.most <= LIMIT
    results = [future.result(WAIT_S) for future in program.futures if future not in dropped]
    assert len(results) == 200 - len(dropped)
    until(lambda: executor.pending_count == 0)


def test_several_threads_wait_and_go_on(executor: ClusterExecutor, session: HeldSession) -> None:
    """Each may be one call beyond the limit: none holds a lock while it submits."""
    programs = [Submitter(executor, 1000) for _ in range(4)]
    until_waiting(executor, 4)

    session.let_go()
    for program in programs:
        program.join()

    assert max(program.most for program in programs) < LIMIT + 4
    assert all(future.result(WAIT_S) >= 0 for program in programs for future in program.futures)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_smallest_limits_let_calls_pass_one_by_one(limit: int) -> None:
    """Nobody waits for more room than there can be."""
    executor = executor_on(PlayedSession(), limit)

    program = Submitter(executor, 300)
    program.join()

    assert program.most <= limit
    assert [future.result(WAIT_S) for future in program.futures] == [n * n for n in range(300)]
    executor.shutdown()


def test_without_a_limit_nobody_waits(session: HeldSession) -> None:
    """As other executors."""
    executor = executor_on(session, 0)

    called = [executor.submit(pow, number, 2) for number in range(10_000)]

    assert executor.pending_count == 10_000
    session.let_go()
    assert sum(future.result(WAIT_S) for future in called) == sum(n * n for n in range(10_000))
    executor.shutdown()


def test_callback_that_submits_does_not_wait(executor: ClusterExecutor, session: HeldSession) -> None:
    """It runs in the thread that makes room. The next call of the program waits for both."""
    added: list[Future[int]] = []
    program = Submitter(executor, LIMIT)
    program.join()
    for future in program.futures:
        future.add_done_callback(lambda _done: added.append(executor.submit(pow, 3, 2)))

    session.let_go()

    assert [future.result(WAIT_S) for future in program.futures] == [n * n for n in range(LIMIT)]
    until(lambda: len(added) == LIMIT)
    assert {future.result(WAIT_S) for future in added} == {9}


def test_callbacks_of_two_executors_that_submit_to_each_other_do_not_wait() -> None:
    """Neither thread would make room for the other."""
    sessions = [HeldSession(), HeldSession()]
    executors = [executor_on(each, 4) for each in sessions]
    added: list[Future[int]] = []
    for one, other in (executors, reversed(executors)):
        for _ in range(4):
            future = one.submit(pow, 2, 2)
            future.add_done_callback(lambda _done, other=other: added.append(other.submit(pow, 5, 2)))

    for each in sessions:
        each.let_go()

    until(lambda: len(added) == 8)
    assert {future.result(WAIT_S) for future in added} == {25}
    for each in executors:
        each.shutdown()


@pytest.mark.parametrize(
    ("end", "error", "words"),
    [
        (lambda executor: executor.shutdown(wait=False), RuntimeError, "after shutdown"),
        (lambda executor: executor.shutdown(wait=False, cancel_futures=True), RuntimeError, "after shutdown"),
        (lambda executor: executor.terminate_workers(), Exception, "after shutdown|were terminated"),
        (lambda executor: executor._sender._session.fail("wait"), BrokenClusterError, "broker ended it"),
        (lambda executor: executor._sender.disown(), BrokenClusterError, "forked"),
    ],
    ids=["shutdown", "cancel_futures", "terminate", "failure", "fork"],
)
def test_end_of_the_executor_ends_the_wait(
    executor: ClusterExecutor, end: Callable[[ClusterExecutor], None], error: type[Exception], words: str
) -> None:
    """With the error that a later call would get."""
    program = Submitter(executor)
    until_waiting(executor)

    end(executor)
    if "forked" in words:  # nobody waits in a fork; here somebody does
        executor._sender._room.wake()
    program.join()

    assert isinstance(program.failure, error)
    assert __import__("re").search(words, str(program.failure))
    with pytest.raises(error):
        executor.submit(pow, 2, 2)


def test_interrupt_ends_the_wait(executor: ClusterExecutor, session: HeldSession) -> None:
    """Ctrl-C, in the middle of a loop that submits; the executor goes on."""
    for number in range(LIMIT):
        executor.submit(pow, number, 2)
    main = threading.main_thread().ident or 0

    def interrupt() -> None:
        """Again if the thread only came to its wait then: CPython looks for signals before it."""
        until_waiting(executor)
        while executor._sender.shared.waiter_count:
            signal.pthread_kill(main, signal.SIGINT)
            with contextlib.suppress(AssertionError):
                until(lambda: executor._sender.shared.waiter_count == 0, 2.0)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        executor.submit(pow, 2, 2)
    thread.join()

    assert executor._sender.shared.waiter_count == 0
    session.let_go()
    assert executor.submit(pow, 2, 2).result(WAIT_S) == 4


def test_cancelled_calls_make_room(executor: ClusterExecutor, session: HeldSession) -> None:
    """Though all workers are busy and nothing is done; also those that are cancelled while somebody waits."""
    program = Submitter(executor)
    until_waiting(executor)
    first = [future for future in program.futures if future.cancel()]
    until(lambda: len(program.futures) == LIMIT + len(first))
    until_waiting(executor)
    second = program.futures[-1]
    assert second.cancel()
    until(lambda: len(program.futures) == LIMIT + len(first) + 1)

    assert len(first) > LIMIT // 2
    with pytest.raises(CancelledError):
        first[0].result(0)
    assert first[0].args == ()  # type: ignore[attr-defined]
    rest = [future for future in program.futures if not future.cancelled()]
    session.let_go()
    assert all(future.result(WAIT_S) >= 0 for future in rest)


def test_calls_that_are_cancelled_without_end_do_not_pile_up(
    session: HeldSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those of asyncio with a timeout, while all workers are busy. The others keep their order."""
    monkeypatch.setattr(sender_module, "MANY_CANCELLED", 20)
    executor = executor_on(session, 10**6)
    kept = [executor.submit(pow, number, 2) for number in range(10)]
    sender = executor._sender
    until(lambda: not sender.queue or len(sender._traffic._out) == sender._traffic.window)

    for number in range(1000):
        executor.submit(pow, 2, 2).cancel()
        if not number % 100:
            kept.append(executor.submit(pow, number, 2))
        executor._sender.wake()

    until(lambda: len(sender.queue) < 100)
    session.let_go()
    assert [future.result(WAIT_S) for future in kept[10:]] == [n * n for n in range(0, 1000, 100)]
    executor.shutdown()


def test_map_takes_from_its_input_as_there_is_room(executor: ClusterExecutor, session: HeldSession) -> None:
    """Without a buffer it submits everything before it returns, as any executor."""
    taken: list[int] = []
    results: list[Iterator[int]] = []

    def numbers() -> Iterator[int]:
        for number in range(1000):
            taken.append(number)
            yield number

    thread = threading.Thread(target=lambda: results.append(executor.map(lambda n: n + 1, numbers())))
    thread.start()
    until_waiting(executor)
    assert len(taken) == LIMIT + 1
    session.let_go()
    thread.join(WAIT_S)

    assert list(results[0]) == list(range(1, 1001))


def test_map_that_finds_no_room_in_time_is_late(executor: ClusterExecutor, session: HeldSession) -> None:
    """It gives what is done by then, as any executor, and calls nothing more."""
    called = executor.map(pow, range(1000), [2] * 1000, timeout=0.05)  # returns after the time

    session.let_go()
    with pytest.raises(TimeoutError):
        list(called)

    until(lambda: executor.pending_count == 0)
    assert sum(1 for _ in executor.map(pow, range(1000), [2] * 1000, timeout=WAIT_S)) == 1000


def test_sizes_that_mean_nothing_are_refused(executor: ClusterExecutor) -> None:
    """As Python 3.14 does."""
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        executor.map(pow, [1], [2], buffersize=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_pending"):
        ClusterExecutor(None, max_pending=-1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cores_per_worker"):
        ClusterExecutor(None, cores_per_worker=0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="colour"):
        ClusterExecutor(None, colour="red")  # type: ignore[arg-type,call-arg]


# --- the limit by itself


def test_limit_counts_calls() -> None:
    """Those that were sent leave less room for those that wait."""
    limit = PendingLimit(1000)

    assert limit.room(0, 0, 8) == 1000
    assert limit.room(990, 0, 8) == 10
    limit.learn(500, 0)
    assert limit.room(990, 0, 8) == 10


def test_large_arguments_count_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that wait are thought to be as large as those that were sent; workers have some all the same."""
    monkeypatch.setattr(subject, "MAX_PENDING_BYTES", 100 * MIB)
    limit = PendingLimit(1000)
    limit.learn(4, 4 * MIB)

    assert limit.room(4, 4 * MIB, 8) == 96
    assert limit.room(10, 100 * MIB, 8) == 0
    assert limit.room(2, 200 * MIB, 8) == 6
    for _ in range(100):
        limit.learn(100, 100)
    assert limit.room(4, 4 * MIB, 8) == 996
    assert PendingLimit(0).room(10**9, 10**12, 8) == math.inf


def test_those_who_wait_are_not_woken_for_each_call() -> None:
    """But for no more than there can be room for."""
    assert PendingLimit(100_000).slack(384) == 96
    assert PendingLimit(100_000).slack(100_000) == 1562
    assert PendingLimit(10).slack(384) == 1
    assert PendingLimit(0).slack(12) == 1


def test_program_with_large_arguments_waits_before_the_limit_of_calls(
    session: HeldSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what was pickled, whatever it is in: here a list."""
    monkeypatch.setattr(subject, "MAX_PENDING_BYTES", 4 * MIB)
    executor = executor_on(session, 10_000)

    def slowly(_function: object, number: int, _two: int) -> Future[int]:
        until(lambda: not executor._sender.queue or number > 6)  # the first ones are sent
        return executor.submit(sum, [256, *bytes(256 * 1024)])

    program = Submitter(executor, 200, slowly)
    until_waiting(executor)
    stood_at = executor.pending_count
    session.let_go()
    program.join()

    assert 6 <= stood_at < 60
    assert {future.result(WAIT_S) for future in program.futures} == {256}
    executor.shutdown()


@pytest.mark.parametrize("way", ["args", "kwargs", "weighted"])
def test_large_arguments_behind_small_calls_that_run_count_at_once(
    session: HeldSession, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """None of them was pickled when it is submitted."""
    monkeypatch.setattr(subject, "MAX_PENDING_BYTES", 4 * MIB)
    executor = executor_on(session, 10_000)
    small = [executor.submit(pow, number, 2) for number in range(100)]
    until(lambda: not executor._sender._traffic.has_room)

    def submit(_function: object, number: int, _two: int) -> Future[Any]:
        large = bytes(256 * 1024) + number.to_bytes(4, "big")
        if way == "args":
            return executor.submit(len, large)
        if way == "kwargs":
            return executor.submit(dict, content=large)
        return executor.submit_weighted(2.0, len, large)

    program = Submitter(executor, 200, submit)
    until_waiting(executor)
    stood_at, held_bytes = executor.pending_count - 100, executor._sender.shared.large.byte_count
    session.let_go()
    program.join()

    assert stood_at <= 16
    assert held_bytes <= 4 * MIB + 256 * 1024 + 4
    results = [future.result(WAIT_S) for future in program.futures]
    assert results[-1] == (
        256 * 1024 + 4 if way != "kwargs" else {"content": bytes(256 * 1024 + 3) + b"\xc7"}
    )
    assert len(small) == 100
    executor.shutdown()
    assert executor._sender.shared.large.byte_count == 0


def test_argument_that_calls_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is let go with the last of them, cancelled ones, too."""
    monkeypatch.setattr(subject, "MAX_PENDING_BYTES", 4 * MIB)
    session = SleepingSession()
    executor = executor_on(session, 10_000)
    assert session.sleeps.wait(WAIT_S)  # none is sent alone, as if its arguments were its own
    grid, other = np.zeros(MIB // 8), "x" * MIB

    futures = [executor.submit(pickles_small, number, grid, text=other) for number in range(2000)]
    held_bytes = executor._sender.shared.large.byte_count
    session.awake.set()
    until(lambda: bool(session._held))
    dropped = sum(future.cancel() for future in futures)
    session.let_go()

    assert held_bytes == 2 * MIB
    assert dropped > 1000
    assert {future.result(WAIT_S) for future in futures if not future.cancelled()} == {1}
    executor.shutdown()
    assert executor._sender.shared.large.byte_count == 0


def pickles_small(_number: int, array: Any, text: str) -> int:
    """Whether the arguments have come."""
    return int(array.nbytes == len(text) == MIB)


class Odd:
    """What an object has of a size is its own business."""

    def __init__(self, size: object) -> None:
        self.size = size

    @property
    def nbytes(self) -> object:
        """As of an array, or not."""
        if isinstance(self.size, Exception):
            raise self.size
        return self.size


def test_size_is_seen_of_what_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strings, bytes and arrays. Types without a size are remembered, but not without end."""
    monkeypatch.setattr(futures, "SMALL_TYPES", {int})
    monkeypatch.setattr(futures, "_MANY_TYPES", 3)
    sizes = {
        "text": 4,
        b"bytes": 5,
        Odd(7): 7,
        Odd("x"): 0,
        Odd(ValueError()): 0,
        memoryview(bytes(9)): 9,
        None: 0,
        (1, 2): 0,
        1.5: 0,
        2: 0,
    }

    assert [futures.visible_bytes(argument) for argument in sizes] == list(sizes.values())
    assert futures.visible_bytes(bytearray(8)) == 8
    assert len(futures.SMALL_TYPES) <= 3


# --- the states of a sender


def test_states_only_move_towards_the_end() -> None:
    """From each the end can be reached, and no way leads back."""
    order = list(SenderState)

    assert MOVES.keys() == set(order)
    assert all(order.index(after) > order.index(before) for before in order for after in MOVES[before])
    assert all(SenderState.ENDED in MOVES[state] for state in order[:-1])


def test_executor_that_is_told_to_end_now_does_not_go_back_to_waiting(
    executor: ClusterExecutor, session: HeldSession
) -> None:
    """Whatever is asked later."""
    futures = [executor.submit(pow, number, 2) for number in range(LIMIT)]
    executor.terminate_workers()
    executor.shutdown(wait=True, cancel_futures=True)

    assert executor._sender.state is SenderState.ENDED
    assert all(isinstance(future.exception(0), BrokenClusterError) for future in futures)
    assert session.is_closed
    executor.shutdown()
    assert isinstance(FAILURE, Exception)
