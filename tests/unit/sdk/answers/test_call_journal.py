"""The journal of an executor: what is answered, what is kept, and what two programs see of each other."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from quakegrid import errors
from quakegrid.journals import files, named
from quakegrid.journals.files import JournalFile
from quakegrid.sdk.answers import answers
from quakegrid.sdk.answers.answers import CallAnswers
from quakegrid.sdk.answers.call_journal import CallJournal
from quakegrid.sdk.futures import CallFuture, Shared, finish

LIMIT_BYTES = 1 << 30
SHARED = Shared(lambda: None)
LARGE = np.arange(20_000.0)


class Program:
    """A program with a journal; it runs the calls that are sent at once, unless it is told to hold them."""

    def __init__(self, folder: Path, name: str = "sums", limit_bytes: int = LIMIT_BYTES) -> None:
        self.answers = CallAnswers(folder, name, limit_bytes)
        self.journal = CallJournal(self.answers, name)
        self.run_count = 0
        self.held: list[CallFuture[Any]] = []
        self.holds = False

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> CallFuture[Any]:
        """As an executor."""
        call = CallFuture(SHARED, function, args, kwargs or None)
        self.journal.submit(call, self._send)
        return call

    def run(self, call: CallFuture[Any]) -> None:
        """Run a call, and keep its result, as the executor's thread does."""
        if not call.begin():
            return
        self.run_count += 1
        assert call.function is not None
        try:
            value = call.function(*call.args, **(call.kwargs or {}))
        except ArithmeticError as exc:
            finish(call, None, exc)
            return
        buffers: list[memoryview] = []
        data = pickle.dumps(value, 5, buffer_callback=lambda buffer: buffers.append(buffer.raw()))
        self.journal.keep(call, value if type(value) is int else data, buffers)
        finish(call, value, None)

    def _send(self, call: CallFuture[Any]) -> None:
        if self.holds:
            self.held.append(call)
        else:
            self.run(call)

    def close(self) -> None:
        """The program ends."""
        self.journal.close()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The first program."""
    found = Program(tmp_path)
    yield found
    found.close()


def double(value: Any) -> Any:
    """A function."""
    return value * 2


def fail() -> None:
    """A function that raises."""
    raise ZeroDivisionError("no")


def appended(values: list[int]) -> int:
    """A function that changes its argument."""
    values.append(1)
    return len(values)


def wait_until_written(program: Program) -> None:
    """Wait for the thread that writes."""
    while program.answers._writer and program.answers._writer.size < program.answers._end:
        threading.Event().wait(0.01)


def segments(folder: Path, name: str = "sums") -> list[str]:
    """The files of a journal."""
    return [path.name for path in named.paths(named.folder_of(folder, name))]


def test_calls_of_before_do_not_run_again(program: Program, tmp_path: Path) -> None:
    """In this program, and in the next one; others do."""
    first = [program.submit(double, number).result() for number in (1, 2, 1)]
    program.close()
    later = Program(tmp_path)
    then = [later.submit(double, number).result() for number in (1, 2, 3)]
    later.close()

    assert (first, program.run_count) == ([2, 4, 2], 2)
    assert (then, later.run_count) == ([2, 4, 6], 1)
    assert segments(tmp_path) == ["1.journal"]


def test_answers_are_the_callers_own(program: Program, tmp_path: Path) -> None:
    """Arrays can be written to, which changes no other answer, neither on the disk nor in memory."""
    found = program.submit(double, LARGE).result()
    found[:] = 0.0
    again = program.submit(double, LARGE).result()
    again[:] = 1.0
    program.close()
    later = Program(tmp_path)

    np.testing.assert_array_equal(program.submit(double, LARGE).result(), LARGE * 2)
    np.testing.assert_array_equal(later.submit(double, LARGE).result(), LARGE * 2)
    assert (program.run_count, later.run_count) == (1, 0)
    later.close()


def test_exceptions_are_not_kept(program: Program) -> None:
    """The next call tries again."""
    for _ in range(2):
        assert isinstance(program.submit(fail).exception(), ZeroDivisionError)
    assert program.run_count == 2


def test_equal_calls_under_way_are_one_call(program: Program) -> None:
    """Each has a result of its own, also if that is an exception; those that were cancelled have none."""
    program.holds = True
    calls = [program.submit(double, [1]) for _ in range(4)]
    bad = [program.submit(fail) for _ in range(2)]
    assert calls[3].cancel()
    for call in program.held:
        program.run(call)

    assert [call.result(0) for call in calls[:3]] == [[1, 1]] * 3
    assert len({id(call.result()) for call in calls[:3]}) == 3
    assert calls[3].cancelled()
    assert [type(call.exception(0)) for call in bad] == [ZeroDivisionError] * 2
    assert program.run_count == 2


def test_equal_call_takes_the_place_of_a_cancelled_one(program: Program) -> None:
    """And of several."""
    program.holds = True
    first, second, third = (program.submit(double, 1) for _ in range(3))
    first.cancel()
    second.cancel()
    program.run(program.held[-1])

    assert [call.cancelled() for call in (first, second, third)] == [True, True, False]
    assert (third.result(0), program.run_count) == (2, 1)


def test_equal_call_that_cannot_be_sent_ends_those_that_wait(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor was shut down meanwhile; nobody waits for ever."""
    waiting: list[CallFuture[Any]] = []

    def refuse(_call: CallFuture[Any]) -> None:
        waiting.append(program.submit(double, 1))
        raise RuntimeError("cannot schedule new futures after shutdown")

    monkeypatch.setattr(program, "_send", refuse)
    with pytest.raises(RuntimeError, match="after shutdown"):
        program.submit(double, 1)

    assert isinstance(waiting[0].exception(0), RuntimeError)


def test_result_of_arguments_that_have_changed_is_not_kept(program: Program) -> None:
    """It may be that of other arguments than the key has."""
    assert program.submit(appended, [1]).result() == 2
    assert program.submit(appended, [1]).result() == 2
    assert program.run_count == 2


def test_call_without_a_key_runs_and_a_warning_says_so_once(
    program: Program, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as one with a lock among its arguments."""
    with caplog.at_level(logging.WARNING, "quakegrid.sdk"):
        for _ in range(2):
            assert program.submit(id, threading.Lock()).result() > 0

    assert program.run_count == 2
    assert [record.getMessage() for record in caplog.records] == [
        "calls_not_kept journal=sums function=id reason=lock: cannot pickle '_thread.lock' object"
    ]


def test_two_programs_write_files_of_their_own(program: Program, tmp_path: Path) -> None:
    """Neither waits; each sees what was there when it began, the next one sees all."""
    program.submit(double, 1).result()
    program.answers.put(b"k" * 16, [b"x"])
    other = Program(tmp_path)
    other.submit(double, 2).result()
    assert segments(tmp_path) == ["1.journal", "2.journal"]
    assert [each.is_used for each in named.all_of(tmp_path)] == [True]
    program.close()
    other.close()

    third = Program(tmp_path)
    assert [third.submit(double, number).result() for number in (1, 2)] == [2, 4]
    assert third.run_count == 0
    third.close()
    (seen,) = named.all_of(tmp_path)
    assert (seen.name, seen.answer_count, seen.is_used) == ("sums", 3, False)
    assert seen.byte_count == sum(
        path.stat().st_size for path in named.paths(named.folder_of(tmp_path, "sums"))
    )


def test_damage_costs_what_is_behind_it(program: Program, tmp_path: Path) -> None:
    """A torn end, and a byte that has changed; what is written then is found."""
    for number in range(10):
        program.submit(double, number).result()
    program.close()
    path = named.paths(named.folder_of(tmp_path, "sums"))[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data + b"QGJ1 torn")

    later = Program(tmp_path)
    assert [later.submit(double, number).result() for number in range(10)] == list(range(0, 20, 2))
    assert 4 <= later.run_count <= 6
    later.close()
    last = Program(tmp_path)
    assert [last.submit(double, number).result() for number in range(10)] == list(range(0, 20, 2))
    assert last.run_count == 0
    last.close()


def test_answer_that_cannot_be_read_is_computed(program: Program) -> None:
    """Its class is gone, or another one."""
    call = CallFuture(SHARED, double, (1,), None)
    program.answers.put(program.journal.key_of(call), [b"no pickle"])

    assert program.submit(double, 1).result() == 2


def test_forgotten_calls_run_again(program: Program, tmp_path: Path) -> None:
    """In all programs that begin afterwards; this one goes on with its journal."""
    program.submit(double, 1).result()
    program.journal.forget()
    program.submit(double, 1).result()
    program.submit(double, 1).result()
    assert program.run_count == 2
    program.close()

    later = Program(tmp_path)
    assert len(later.answers) == 1
    later.close()


def test_full_disk_ends_the_journal_and_not_the_calls(
    program: Program, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning tells it; what this program has found out is answered as long as it lives."""
    told = threading.Event()
    closed = program.answers._on_closed

    def full(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def on_closed(reason: str) -> None:
        closed(reason)
        told.set()

    monkeypatch.setattr(program.answers._writer, "_on_closed", on_closed)
    monkeypatch.setattr(os, "pwritev", full)
    with caplog.at_level(logging.WARNING, "quakegrid.sdk"):
        assert program.submit(double, 1).result() == 2
        assert told.wait(60)
    assert [program.submit(double, number).result() for number in (1, 2, 2)] == [2, 4, 4]

    assert program.run_count == 3
    assert "journal_takes_nothing_more name=sums reason=No space left on device" in caplog.text


def test_journal_that_cannot_be_written_answers_all_the_same(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The disk is full as the program begins."""
    program.submit(double, 1).result()
    program.close()

    def refuse(_folder: Path) -> JournalFile:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(answers.named, "opened", refuse)
    later = Program(tmp_path)
    assert [later.submit(double, number).result() for number in (1, 2, 2)] == [2, 4, 4]
    later.close()

    assert later.run_count == 2
    assert "reason=Read-only file system" in caplog.text


def test_memory_of_answers_that_are_written_is_given_back(program: Program) -> None:
    """Only those of the last moment are there twice."""
    for number in range(300):
        program.submit(double, bytes(10_000) + bytes([number % 256, number // 256])).result()
    wait_until_written(program)
    program.submit(double, 1).result()

    assert len(program.answers._recent) == 1
    assert program.submit(double, bytes(10_000) + bytes(2)).result() == bytes(20_004)
    assert program.run_count == 301


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "ä", "x" * 65])
def test_name_must_be_one_of_a_folder(tmp_path: Path, name: str) -> None:
    """On any file system, and in any shell."""
    with pytest.raises(ValueError, match="cannot name a journal"):
        CallAnswers(tmp_path, name, LIMIT_BYTES)


def test_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Journals hold pickles."""
    files.own_folder(tmp_path).chmod(0o777)

    with pytest.raises(errors.StateError, match=r"journal sums cannot be opened: .*open to others"):
        CallAnswers(tmp_path, "sums", LIMIT_BYTES)


def test_journals_of_calls_make_room_for_others(tmp_path: Path) -> None:
    """Those that were not used for longest, unless a program has them."""
    for name in ("old", "new"):
        first = Program(tmp_path, name)
        first.submit(double, bytes(1000)).result()
        first.close()
    os.utime(named.paths(named.folder_of(tmp_path, "old"))[0], (1, 1))
    used = Program(tmp_path, "used")
    used.submit(double, bytes(1000)).result()
    wait_until_written(used)

    assert files.JournalRoom(files.own_folder(tmp_path), 5000).why_full(0) == ""

    used.close()
    assert [each.name for each in named.all_of(tmp_path)] == ["new", "used"]


def test_call_that_is_cancelled_while_it_begins_blocks_nobody(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next equal call runs."""
    call = CallFuture(SHARED, double, (21,), None)
    monkeypatch.setattr(program.answers, "find", lambda _key: call.cancel() and None)
    thread = threading.Thread(target=program.journal.submit, args=(call, program.run), daemon=True)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()
    monkeypatch.undo()

    assert program.submit(double, 21).result(0) == 42
    assert program.run_count == 1


def test_call_takes_the_place_of_one_that_was_cancelled(program: Program) -> None:
    """Also before the end of that one was heard of, which then takes nothing away."""
    program.holds = True
    first = program.submit(double, 21)
    del first._done_callbacks[:]  # another thread has not come to its own
    first.cancel()

    second = program.submit(double, 21)
    program.journal._end(first)
    third = program.submit(double, 21)
    for call in program.held:
        program.run(call)

    assert (second.result(0), third.result(0), program.run_count) == (42, 42, 1)
