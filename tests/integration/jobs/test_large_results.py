"""Results that are large: few at once, whoever asks, and their places are given back whatever happens."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.job_watch import watch_jobs
from quakegrid.jobs.states import JobState
from quakegrid.services.dbserver.jobs import lists
from quakegrid.services.dbserver.rpc import call_streams
from quakegrid.services.dbserver.server import CALL_THREADS, DbServer
from quakegrid.services.dbserver.store import schema
from quakegrid.services.dbserver.store.database import PART_ROWS, Readers
from quakegrid.services.dbserver.store.read_limits import (
    LARGE_RESULTS,
    LargeResults,
    ReadLimits,
    ReadTooLargeError,
)
from quakegrid.settings.config import Settings
from tests.support.dbservers import serving

# A result of some 600 KB, which needs a place.
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 6000)"
LARGE = f"SELECT i, printf('%.100c', 'x') FROM ({NUMBERS} SELECT i FROM n)"
SMALL = "SELECT 1"


@pytest.fixture
def readers(tmp_path: Path) -> Iterator[Readers]:
    """Readers of a new file."""
    schema.prepare_database(tmp_path / "db.sqlite3")
    readers = Readers(tmp_path / "db.sqlite3")
    yield readers
    readers.close()


@pytest.fixture
def server(settings: Settings) -> Iterator[DbServer]:
    """A dbserver."""
    with serving(settings) as server:
        yield server


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what another thread brings about."""
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def free_count(results: LargeResults) -> int:
    """How many places are free."""
    return results._free._value


class Caller:
    """Whoever waits for a result, and has it when it came."""

    def has_left(self) -> bool:
        """Whether nobody wants the result any more."""
        return False


def test_connection_forgets_its_caller(readers: Readers) -> None:
    """Each of eight connections kept the last result that was read with it, of up to 16 MB."""
    caller = Caller()
    session = readers.session(limits=ReadLimits(is_cancelled=caller.has_left))
    session.query(LARGE)
    assert sum(map(len, session.read_limited(LARGE))) == 6000
    known = weakref.ref(caller)

    del caller, session

    assert known() is None


def test_only_large_results_take_a_place(readers: Readers) -> None:
    """Once for all reads of a call; it is given back once."""
    results = LargeResults(2)
    place = results.place()
    session = readers.session(limits=ReadLimits(place=place))

    session.query(SMALL)
    assert free_count(results) == 2
    session.query(LARGE)
    assert sum(map(len, session.read_limited(LARGE))) == 6000
    assert free_count(results) == 1
    place.give_back()
    place.give_back()
    assert free_count(results) == 2
    with pytest.raises(errors.StateError, match="the caller has left"):
        session.query(LARGE)
    assert free_count(results) == 2


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"timeout_s": 0.2}, "took more than 0.2 s"),
        ({"is_cancelled": lambda: True}, "the caller has left"),
    ],
)
def test_waiting_for_a_place_has_an_end(readers: Readers, limits: dict[str, object], words: str) -> None:
    """A read that waits keeps a thread and an instant of the database."""
    results = LargeResults(0)
    session = readers.session(limits=ReadLimits(place=results.place(), **limits))  # type: ignore[arg-type]

    with pytest.raises(errors.QuakeGridError, match=words):
        session.query(LARGE)
    with pytest.raises(errors.QuakeGridError, match=words):
        list(session.read_limited(LARGE))


def test_parts_are_of_few_rows(readers: Readers) -> None:
    """No more than one part is in the memory, and the limit counts for all of them."""
    parts = list(readers.session().read_limited(LARGE))

    assert max(map(len, parts)) <= PART_ROWS
    assert [row["i"] for part in parts for row in part] == list(range(1, 6001))
    assert [len(part) for part in readers.session().read_limited("SELECT 1 WHERE 0")] == [0]
    with pytest.raises(ReadTooLargeError, match="ask for fewer rows"):
        list(readers.session(limits=ReadLimits(largest_bytes=100_000)).read_limited(LARGE))


def test_crowd_of_large_reads_holds_few_results(server: DbServer, settings: Settings) -> None:
    """All are answered, and never more at once than there are places; then all places are free."""
    results = server._threads.large_results
    least: list[int] = []
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(0.001):
            least.append(free_count(results))

    def ask(_number: int) -> int:
        with DbClient(settings) as client:
            return len(client.call(LARGE)) + len(client.call("get_log_slice", 1, 0, 0))

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == [6000] * 24
    is_over.set()
    looking.join()

    assert 0 <= min(least) < LARGE_RESULTS
    wait_until(lambda: free_count(results) == LARGE_RESULTS)


def test_places_of_refused_and_abandoned_reads_are_free(
    server: DbServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a result that is too large nor a caller that leaves while it waits keeps a place."""
    results = server._threads.large_results
    with DbClient(settings) as client:
        with pytest.raises(errors.UsageError, match="larger than 16 MB"):
            client.call(LARGE.replace("LIMIT 6000", ""))
        assert free_count(results) == LARGE_RESULTS
        held = [results.place() for _ in range(LARGE_RESULTS)]
        for place in held:
            place.take(lambda: None)
        with ThreadPoolExecutor(2) as pool:
            leaver = DbClient(settings)
            call = pool.submit(leaver.call, LARGE)
            wait_until(lambda: len(server._readers._all) > len(server._readers._free))
            leaver.close()
            assert isinstance(call.exception(60), errors.QuakeGridError)
        wait_until(lambda: len(server._readers._all) == len(server._readers._free))
        for place in held:
            place.give_back()
        assert len(client.call(LARGE)) == 6000
        wait_until(lambda: free_count(results) == LARGE_RESULTS)


def test_client_that_does_not_receive_its_answer_is_cut_off(
    server: DbServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer would keep a place from others for ever."""
    monkeypatch.setattr(call_streams, "SEND_TIMEOUT_S", 0.0)
    with DbClient(settings) as client, pytest.raises(errors.QuakeGridError):
        client.call(LARGE)
    monkeypatch.setattr(call_streams, "SEND_TIMEOUT_S", 60.0)

    with DbClient(settings) as client:
        assert len(client.call(LARGE)) == 6000
    wait_until(lambda: free_count(server._threads.large_results) == LARGE_RESULTS)


def test_page_of_jobs_with_long_texts_is_shorter(
    server: DbServer, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has as many as fit, and the next ones follow: all come, once each, in order."""
    monkeypatch.setattr(lists, "LARGEST_PAGE_BYTES", 10_000)
    assert server
    with DbClient(settings) as client:
        for _ in range(40):
            client.jobs.create_job(
                data_dir="/d", calculation_mode="c", description="d" * 900, user_name="ada"
            )

        assert [job.id for job in client.jobs.list_jobs(100)] == list(range(40, 0, -1))
        assert [job.id for job in client.jobs.list_jobs(30)] == list(range(40, 10, -1))


def test_watchers_and_reads_do_not_wait_for_calls_that_write(server: DbServer, settings: Settings) -> None:
    """All threads of such calls may wait for the writer; who only reads goes past them."""
    release = threading.Event()
    started = threading.Semaphore(0)

    def block() -> None:
        started.release()
        release.wait()

    with DbClient(settings) as client:
        job = client.jobs.create_job(data_dir="/d", calculation_mode="c", description="d", user_name="ada")
        for _ in range(CALL_THREADS):
            server._calls.submit(block)
        for _ in range(CALL_THREADS):
            assert started.acquire(timeout=60)
        try:
            watched = watch_jobs(client)
            snapshot = next(watched)
            client.call("finish", job.id, "complete")  # goes to the writer without a thread
            event = next(watched)

            assert [each.id for each in snapshot.jobs] == [job.id]
            assert event.new_state is JobState.COMPLETE
            assert client.jobs.get_job(job.id).state is JobState.COMPLETE
            assert len(client.jobs.list_jobs()) == 1
        finally:
            release.set()
