"""What a worker prints, cut and bounded; what a session's driver is told of it."""

from __future__ import annotations

import pytest

from quakegrid.internal.v1 import orders_pb2, sessions_pb2
from quakegrid.services.agent.rules import output_lines
from quakegrid.services.agent.rules.output_lines import Line, PrintedOutput
from quakegrid.services.broker.drivers import printed as session_output
from quakegrid.services.broker.drivers.printed import LEFT_OUT, SessionOutput
from quakegrid.session import worker_output as worker_words
from quakegrid.transport.byte_rates import Allowance
from quakegrid.wire.v1 import lane_pb2


def fed(*pieces: bytes, is_error: bool = False) -> PrintedOutput:
    """A worker that printed these at once."""
    worker = PrintedOutput()
    for piece in pieces:
        worker.feed(piece, is_error=is_error, now_s=0.0)
    return worker


def texts(worker: PrintedOutput, *, is_last: bool = False) -> list[str]:
    """What there is to take."""
    return [line.text for line in worker.take(is_last=is_last)]


def test_lines_are_put_together_from_pieces() -> None:
    """However the pipe cut them; what has no end waits for it."""
    worker = fed(b"on", b"e\ntwo\n", b"\n\nthr")

    assert texts(worker) == ["one", "two"]
    worker.feed(b"ee\n", is_error=False, now_s=0.0)
    assert texts(worker) == ["three"]
    assert not worker.is_waiting


def test_streams_are_told_apart() -> None:
    """And begun lines of one do not end in the other."""
    worker = fed(b"out")
    worker.feed(b"err\n", is_error=True, now_s=0.0)
    worker.feed(b"put\n", is_error=False, now_s=0.0)

    assert worker.take() == [Line("err", is_error=True), Line("output", is_error=False)]


def test_last_line_needs_no_end() -> None:
    """A worker that dies in the middle of a line has said that much."""
    assert texts(fed(b"so far"), is_last=True) == ["so far"]


def test_long_line_is_cut_and_bad_bytes_are_replaced() -> None:
    """Nothing of it is lost, and everything is text."""
    size = output_lines.MAX_LINE_BYTES
    long = texts(fed(b"x" * (2 * size + 5), b"\n"))

    assert [len(text) for text in long] == [size, size, 5]
    assert texts(fed(b"\xff\xfe ok\0\n")) == ["\ufffd\ufffd ok\ufffd"]


def test_progress_bar_is_told_as_it_ended() -> None:
    """A terminal would show the last of what was written over itself."""
    assert texts(fed(b"10 %\r50 %\r100 %\r\n")) == ["100 %"]


def test_flood_is_cut_and_counted() -> None:
    """What is past the burst is dropped, which is said once, when the worker is quiet."""
    line = b"x" * 99 + b"\n"
    worker = PrintedOutput()
    kept = []
    for _ in range(3000):
        worker.feed(line * 1000, is_error=False, now_s=0.0)
        kept += texts(worker)
    kept += texts(worker)

    assert sum(text == "x" * 99 for text in kept) * 100 <= output_lines.BURST_BYTES
    assert [text for text in kept if "x" not in text] == ["… 299 MB more of its output were dropped"]
    assert not worker.is_waiting


def test_after_a_flood_whole_lines_come_again() -> None:
    """The note stands where the gap is, and the line that was cut is not told in part."""
    worker = fed(b"begun ", b"x" * output_lines.BURST_BYTES)
    later_s = output_lines.BURST_BYTES / output_lines.RATE_BYTES_S

    worker.feed(b"rest\nnext\n", is_error=False, now_s=later_s)
    assert texts(worker) == ["… 1049 kB more of its output were dropped", "begun ", "next"]
    assert not worker.is_waiting


def test_newest_is_kept_while_nobody_takes_it() -> None:
    """In bounded memory."""
    worker = PrintedOutput()
    for number in range(100):
        worker.feed(b"%d " % number + b"x" * 9_000 + b"\n", is_error=False, now_s=0.0)

    assert worker.waiting_bytes <= output_lines.MAX_WAITING_BYTES
    first, *rest = texts(worker)
    assert first.endswith("more of its output were dropped")
    assert rest[-2].startswith("99 ")
    assert not any("dropped" in text for text in rest)


def test_end_of_stderr_is_kept_whatever_was_dropped() -> None:
    """It tells why a worker died."""
    worker = fed(b"noise\n" * 1_000_000, b"Fatal: no such site\n", is_error=True)

    last = worker.last_lines()

    assert last[-1] == "Fatal: no such site"
    assert len(last) <= output_lines.LAST_LINES


def test_allowance_comes_back_in_one_piece() -> None:
    """When it was spent, nothing passes until half of it is there."""
    allowance = Allowance(10.0, 100)

    taken = [allowance.take(80, 0.0), allowance.take(80, 0.0), allowance.take(1, 4.0), allowance.take(1, 5.0)]

    assert taken == [80, 20, 0, 1]


def printed(byte_count: int) -> orders_pb2.WorkerOutput:
    """A message of about this size."""
    line = orders_pb2.OutputLine(text="x" * byte_count)
    return orders_pb2.WorkerOutput(worker_id="w", session_id=1, node="n", lines=[line])


def test_driver_that_does_not_read_is_told_once_that_lines_are_left_out() -> None:
    """And gets later ones when it has read."""
    session = SessionOutput()
    told: list[sessions_pb2.OpenSessionResponse] = []
    for _ in range(10):
        response = session.admit(printed(session_output.MAX_WAITING_BYTES // 4), 0.0)
        told += [response] if response else []
    for each in told:
        session.on_taken(each)

    after = session.admit(printed(10), 100.0)

    assert [each.worker_output.lines[0].text == LEFT_OUT for each in told] == [False, False, False, True]
    assert after is not None
    assert after.worker_output.lines[0].text == "x" * 10


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("killed by SIGKILL", "worker w on node n was killed by SIGKILL, while"),
        ("stopped at 9 MiB of its own", "worker w on node n was stopped at 9 MiB of its own, while"),
        ("exit code 3", "worker w on node n ended with exit code 3, while"),
        ("node n: its agent stopped", "worker w on node n is lost: node n: its agent stopped, while"),
    ],
)
def test_death_is_told_in_a_sentence(reason: str, words: str) -> None:
    """With what the worker ran and last said."""
    lease = lane_pb2.Lease(session_id=1, task_id=7, attempt=2)
    died = lane_pb2.WorkerDied(
        end=orders_pb2.WorkerEnd(worker_id="w", node="n", reason=reason, last_output=["a", "b"]),
        lease=lease,
        operation="sum",
    )

    said = worker_words.from_death(died)

    assert said.is_warning
    assert said.text.startswith(words)
    assert said.text.endswith("it ran task 7 (attempt 2, sum); its last lines:\na\nb")


def test_death_of_an_idle_worker_names_no_task() -> None:
    """There is none."""
    died = lane_pb2.WorkerDied(end=orders_pb2.WorkerEnd(worker_id="w", node="n", reason="exit code 1"))

    assert worker_words.describe_death(died) == (
        "worker w on node n ended with exit code 1, while it held no task"
    )


@pytest.mark.parametrize(
    ("byte_count", "words"),
    [(9_999, "9999 bytes"), (10_000, "10 kB"), (9_999_999, "10000 kB"), (10_000_000, "10 MB")],
)
def test_size_of_what_was_dropped_is_told_in_words(byte_count: int, words: str) -> None:
    """Exact while it is small."""
    assert output_lines._note(byte_count) == f"… {words} more of its output were dropped"
