"""The dbserver's services over real connections."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.api.v1 import jobs_pb2, jobs_pb2_grpc, logs_pb2, logs_pb2_grpc
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.log_sender import LogStream
from quakegrid.internal.v1 import engine_calls_pb2, engine_calls_pb2_grpc
from quakegrid.jobs import engine_values
from quakegrid.jobs.filters import JobFilter
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job, LogLine
from quakegrid.services.broker.drivers.jobs_aio import transition_job
from quakegrid.services.web.persons import removals
from quakegrid.transport import grpc_channels
from tests.support.calls import loops
from tests.support.dbservers import LocalDbServer
from tests.support.processes import Service

TIME = dt.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=dt.UTC)


def new_job(client: DbClient, data_dir: Path | str = "/nonexistent", **fields: Any) -> Job:
    """A job of ada's."""
    wanted: dict[str, Any] = {
        "data_dir": str(data_dir),
        "calculation_mode": "classical",
        "description": "demo",
        "user_name": "ada",
    }
    return client.jobs.create_job(**(wanted | fields))


def line(message: str) -> LogLine:
    """A log line."""
    return LogLine(TIME, "INFO", "MainProcess/1", message)


def messages(client: DbClient, job_id: int) -> list[str]:
    """What is in a job's log."""
    return [stored.message for stored in client.logs.list_log(job_id)]


def test_create_job_returns_the_stored_row(client: DbClient) -> None:
    """A new job is created, not executing, and names its datastore."""
    parent = new_job(client)

    job = new_job(client, "/data", hazard_calculation_id=parent.id, host="node1")

    assert (job.state, job.ds_calc_dir, job.host) == (JobState.CREATED, f"/data/calc_{job.id}", "node1")
    assert (job.hazard_calculation_id, job.stop_time, job.pid, job.size_mb) == (parent.id, None, None, None)
    assert job.start_time.tzinfo is dt.UTC
    assert client.jobs.get_job(job.id) == job


def test_create_job_with_unknown_hazard_is_not_found(client: DbClient) -> None:
    """A job cannot start from one that does not exist."""
    with pytest.raises(errors.NotFoundError, match="no job 99"):
        new_job(client, hazard_calculation_id=99)


def test_negative_ids_of_the_engine_count_the_jobs_of_who_calls(client: DbClient) -> None:
    """Also -2, which upstream counts among the jobs of everybody; nobody's newer job is changed."""
    first, second, bobs = new_job(client), new_job(client), new_job(client, user_name="bob")

    found = [client.call("get_job", number, user_name="ada")["id"] for number in (-1, -2)]
    named = client.call("get_job", -1, "bob", user_name="ada")["id"]
    missing = client.call("get_job", -3, user_name="ada")

    assert (found, named, missing) == ([second.id, first.id], bobs.id, None)
    assert client.call("set_status", -2, "failed", user_name="ada") == 1
    assert client.call("set_status", -3, "failed", user_name="ada") == 0
    states = [client.jobs.get_job(job.id).state for job in (first, second, bobs)]
    assert states == [JobState.FAILED, JobState.CREATED, JobState.CREATED]


def test_get_job_takes_negative_ids(client: DbClient) -> None:
    """-1 is the last job, or the last one of a user."""
    first, second = new_job(client), new_job(client, user_name="bob")

    assert client.jobs.get_job(-1) == second
    assert client.jobs.get_job(-1, "ada") == first
    with pytest.raises(errors.NotFoundError, match="no job -1 of eve"):
        client.jobs.get_job(-1, "eve")


def test_list_jobs_pages_newest_first(client: DbClient) -> None:
    """Limits, users and states are kept; deleted jobs are left out unless asked for."""
    jobs = [new_job(client, user_name=user) for user in ("ada", "bob", "ada", "ada")]
    client.jobs.transition(jobs[3].id, JobState.DELETED)

    assert [job.id for job in client.jobs.list_jobs()] == [3, 2, 1]
    assert [job.id for job in client.jobs.list_jobs(1, JobFilter(user_name="ada"))] == [3]
    assert [job.id for job in client.jobs.list_jobs(wanted=JobFilter(states=[JobState.DELETED]))] == [4]


def test_list_jobs_pages_join_without_gap(dbserver: LocalDbServer, client: DbClient) -> None:
    """The pages of a list are the list."""
    for _ in range(5):
        new_job(client)
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        stub, token, ids = jobs_pb2_grpc.JobsStub(channel), "", []

        while not ids or token:
            page = stub.ListJobs(jobs_pb2.ListJobsRequest(page_size=2, page_token=token))
            ids.extend(job.id for job in page.jobs)
            token = page.next_page_token

        assert ids == [5, 4, 3, 2, 1]
        with pytest.raises(grpc.RpcError, match="no page token"):
            stub.ListJobs(jobs_pb2.ListJobsRequest(page_token="x"))


def test_transition_to_the_end_stores_time_and_reason(client: DbClient) -> None:
    """A failed job has a stop time and says why in its log."""
    job = new_job(client)

    executing = client.jobs.transition(job.id, JobState.EXECUTING)
    failed = client.jobs.transition(job.id, JobState.FAILED, "the driver was killed")

    assert (executing.is_running, executing.stop_time) == (True, None)
    assert (failed.state, failed.is_running) == (JobState.FAILED, False)
    assert failed.stop_time is not None
    [reason] = client.logs.list_log(job.id)
    assert (reason.level, reason.message) == ("ERROR", "the driver was killed")


def test_transition_of_an_ended_job_is_refused(client: DbClient) -> None:
    """An end is final; repeating it changes nothing."""
    job = new_job(client)
    aborted = client.jobs.transition(job.id, JobState.ABORTED, "by ada")

    assert client.jobs.transition(job.id, JobState.ABORTED, "again") == aborted
    assert messages(client, job.id) == ["by ada"]
    with pytest.raises(errors.StateError, match="is aborted and cannot become failed"):
        client.jobs.transition(job.id, JobState.FAILED)
    with pytest.raises(errors.NotFoundError, match="no job 99"):
        client.jobs.transition(99, JobState.FAILED)


def test_finish_after_abort_keeps_aborted(client: DbClient) -> None:
    """The engine's late `finish` and `update_job` are ignored without an error."""
    job = new_job(client)
    aborted = client.jobs.transition(job.id, JobState.ABORTED)

    client.call("finish", job.id, "failed")
    client.call("update_job", job.id, {"status": "executing", "start_time": TIME, "is_running": 1})

    assert client.jobs.get_job(job.id) == aborted
    assert client.call("set_status", job.id, "failed") == 0


async def _abort(settings: Any, job_id: int) -> JobState:
    async with grpc_channels.open_aio_channel(settings.dbserver_address, settings.authkey) as channel:
        job = await transition_job(channel, job_id, JobState.ABORTED, "by ada")
        with pytest.raises(errors.StateError):
            await transition_job(channel, job_id, JobState.COMPLETE)
    return job.state


def test_transition_from_an_event_loop(dbserver: LocalDbServer, client: DbClient) -> None:
    """The function for event loops moves jobs and raises our errors."""
    job = new_job(client)

    assert loops.run(_abort(dbserver.settings, job.id)) is JobState.ABORTED


def test_delete_job_removes_rows_and_files(client: DbClient, tmp_path: Path) -> None:
    """A deleted job leaves neither rows nor datastore."""
    job = new_job(client, tmp_path)
    client.logs.append_log(job.id, [line("one")])
    client.jobs.transition(job.id, JobState.COMPLETE)
    datastore = Path(f"{job.ds_calc_dir}.hdf5")
    datastore.touch()

    paths = client.jobs.delete_job(job.id, "ada", delete_files=True)

    assert paths[0] == str(datastore)
    assert not datastore.exists()
    assert not len(client.call("SELECT * FROM log"))
    with pytest.raises(errors.NotFoundError):
        client.jobs.get_job(job.id)


def test_files_that_cannot_be_removed_are_said_and_noted(client: DbClient, tmp_path: Path) -> None:
    """With their owner, for who can remove them; until that is told they stay on the list."""
    one, other = new_job(client, tmp_path), new_job(client, tmp_path)
    paths = [Path(f"{job.ds_calc_dir}.hdf5") for job in (one, other)]
    for path in paths:
        path.mkdir()  # which not even root can unlink

    files = client.jobs.delete_job_and_files(one.id, "ada")
    answer = client.call("del_calc", other.id, "ada")

    assert files.left == [str(paths[0])]
    assert files.gone == [f"{one.ds_calc_dir}_tmp.hdf5"]
    assert answer == {"success": str(other.id), "hdf5paths": [str(paths[1]), f"{other.ds_calc_dir}_tmp.hdf5"]}
    query = "SELECT path, user_name FROM quakegrid_left_file ORDER BY path"
    assert client.call(query).rows == tuple((str(path), "ada") for path in sorted(paths))
    assert client.call(removals.LEFT, 1, 10).rows == ((str(paths[0]), "ada"),)
    client.call("DELETE FROM quakegrid_left_file WHERE path IN (?X)", [str(paths[0])])
    assert client.call(query).rows == ((str(paths[1]), "ada"),)


def test_delete_job_is_refused_with_reason(client: DbClient) -> None:
    """Running jobs, parents and other people's jobs stay."""
    parent = new_job(client)
    child = new_job(client, hazard_calculation_id=parent.id)
    client.jobs.transition(child.id, JobState.EXECUTING)

    for job_id, user_name, reason in (
        (child.id, "ada", "abort it first"),
        (parent.id, "ada", "dependent"),
        (parent.id, "bob", "dependent"),
    ):
        with pytest.raises(errors.StateError, match=reason):
            client.jobs.delete_job(job_id, user_name, delete_files=True)
    client.jobs.transition(child.id, JobState.ABORTED)
    with pytest.raises(errors.StateError, match="belongs to ada and you are bob"):
        client.jobs.delete_job(child.id, "bob", delete_files=True)


def test_del_calc_removes_files_after_the_commit(client: DbClient, tmp_path: Path) -> None:
    """Upstream's action removes the datastore, unless told not to."""
    jobs = [new_job(client, tmp_path) for _ in range(2)]
    datastores = [Path(f"{job.ds_calc_dir}.hdf5") for job in jobs]
    for datastore in datastores:
        datastore.touch()

    client.call("del_calc", jobs[0].id, "ada")
    client.call("del_calc", jobs[1].id, "ada", False)

    assert [datastore.exists() for datastore in datastores] == [False, True]


def test_list_log_keeps_order_and_time(client: DbClient) -> None:
    """Lines come back as stored, over pages or only the last."""
    job = new_job(client)
    lines = [line(f"line {number}") for number in range(2500)]

    assert client.logs.append_log(job.id, lines) == 2500

    stored = list(client.logs.list_log(job.id))
    assert [dataclasses.replace(one, id=0) for one in stored] == lines
    assert [one.message for one in client.logs.list_log(job.id, tail_count=2)] == ["line 2498", "line 2499"]
    with pytest.raises(errors.NotFoundError):
        list(client.logs.list_log(99))
    with pytest.raises(errors.NotFoundError):
        client.logs.append_log(99, lines[:1])


def test_tail_log_sends_each_line_once_until_the_end(dbserver: LocalDbServer, client: DbClient) -> None:
    """Followers get what is there and what comes, in order, none twice, and end with the job."""
    job = new_job(client)
    client.logs.append_log(job.id, [line("0")])
    followed: list[list[str]] = [[], []]

    def follow(index: int) -> None:
        with DbClient(dbserver.settings) as own:
            followed[index] = [one.message for one in own.logs.tail_log(job.id)]

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 200):
        client.logs.append_log(job.id, [line(str(number))])
    client.jobs.transition(job.id, JobState.FAILED, "the end")
    for thread in threads:
        thread.join(60)

    expected = [*map(str, range(200)), "the end"]
    assert followed == [expected, expected]


def test_slices_size_and_traceback(client: DbClient) -> None:
    """Slices are Python's, over pages too; the traceback is the last message of an error."""
    job = new_job(client)
    client.logs.append_log(job.id, [line(str(number)) for number in range(2500)])
    assert client.logs.get_traceback(job.id) == ""
    client.logs.append_log(
        job.id,
        [LogLine(TIME, "CRITICAL", "p", "first"), LogLine(TIME, "ERROR", "p", "Traceback\nlast")],
    )

    assert [one.message for one in client.logs.slice_log(job.id, 1, 3)] == ["1", "2"]
    assert [one.message for one in client.logs.slice_log(job.id, 500, 2499)] == [*map(str, range(500, 2499))]
    assert [one.message for one in client.logs.slice_log(job.id, 2501)] == ["Traceback\nlast"]
    assert list(client.logs.slice_log(job.id, 3, 1)) == []
    assert client.logs.get_log_size(job.id) == 2502
    assert client.logs.get_traceback(job.id) == "Traceback\nlast"
    with pytest.raises(errors.UsageError, match="skip_count is -1"):
        list(client.logs.slice_log(job.id, -1))
    for call in (client.logs.get_log_size, client.logs.get_traceback):
        with pytest.raises(errors.NotFoundError):
            call(99)


def test_log_stream_stores_all_jobs_lines_in_order(client: DbClient) -> None:
    """Lines of several jobs and threads, of any text and level, are there after a flush."""
    jobs = [new_job(client) for _ in range(3)]
    texts = [f'{number} caf\u00e9 \U0001f30b "quoted"\n\\u0000' for number in range(700)]

    with LogStream(client) as stream:
        for text in texts:
            for job in jobs:
                stream.append(job.id, line(text))
        stream.flush(60)

        assert [messages(client, job.id) for job in jobs] == [texts] * 3


def test_log_stream_leaves_out_what_is_refused(client: DbClient, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines of a job that is gone do not hold up the others; flush tells of them once."""
    job = new_job(client)
    with LogStream(client) as stream:
        stream.append(99, line("nobody's"))
        stream.append(job.id, line("kept"))

        with pytest.raises(errors.NotFoundError, match="no job 99"):
            stream.flush(60)
        stream.flush(60)

    assert messages(client, job.id) == ["kept"]
    assert "log lines were not stored" in capsys.readouterr().err


def test_log_stream_closes_at_once_when_nobody_answers(dbserver_process: Service) -> None:
    """A calculation that ends is not held up beyond the time it gives."""
    with DbClient(dbserver_process.settings) as client:
        job = new_job(client)
        dbserver_process.stop(signal.SIGKILL)
        stream = LogStream(client)
        stream.append(job.id, line("lost"))

        with pytest.raises(errors.PeerUnreachableError, match="did not take the log"):
            stream.flush(0.2)
        stream.close(0.2)
        stream._thread.join(60)

        assert not stream._thread.is_alive()


def test_batch_too_large_is_refused(dbserver: LocalDbServer, client: DbClient) -> None:
    """The answer says what is allowed, after those to the batches before."""
    job = new_job(client)
    one = logs_pb2.LogLine(level="INFO", message="m")
    batches = [
        logs_pb2.AppendLogRequest(job_id=job.id, request_id=f"r{count}", lines=[one] * count)
        for count in (2000, 2001)
    ]
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        answers = logs_pb2_grpc.LogsStub(channel).AppendLog(iter(batches))

        assert next(answers).stored_count == 2000
        with pytest.raises(grpc.RpcError) as refusal:
            next(answers)

    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "at most 2000 lines" in (refusal.value.details() or "")


def test_tail_log_of_an_ended_job_ends(client: DbClient) -> None:
    """There is nothing to wait for; `after_id` leaves out what is known."""
    job = new_job(client)
    client.logs.append_log(job.id, [line("a"), line("b")])
    client.jobs.transition(job.id, JobState.COMPLETE)

    first, second = client.logs.tail_log(job.id)

    assert (first.message, second.message) == ("a", "b")
    assert list(client.logs.tail_log(job.id, after_id=first.id)) == [second]
    with pytest.raises(errors.NotFoundError):
        list(client.logs.tail_log(99))


def test_followers_leave_room_for_calls(dbserver: LocalDbServer, client: DbClient) -> None:
    """Followers have a bounded number of places, which calls do not share and leaving gives back."""
    job = new_job(client)
    client.logs.append_log(job.id, [line("a")])
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        stub = logs_pb2_grpc.LogsStub(channel)
        streams = [stub.TailLog(logs_pb2.TailLogRequest(job_id=job.id)) for _ in range(500)]
        for stream in streams:
            next(stream)

        with pytest.raises(errors.QuakeGridError, match="500 others follow"):
            list(client.logs.tail_log(job.id))
        assert client.jobs.get_job(job.id) == job

        for stream in streams:
            stream.cancel()
        client.jobs.transition(job.id, JobState.COMPLETE)
        assert len(_follow_when_free(client, job.id)) == 1


def _follow_when_free(client: DbClient, job_id: int) -> list[LogLine]:
    while True:  # a cancelled stream gives its place back a moment later
        with contextlib.suppress(errors.QuakeGridError):
            return list(client.logs.tail_log(job_id))


def test_list_outputs_gives_what_was_registered(client: DbClient) -> None:
    """Outputs have names, keys and sizes."""
    job = new_job(client)
    client.call("create_outputs", job.id, [["hcurves", "Hazard Curves", 0.5], ["hmaps", "Maps", None]], 3)

    curves, maps = client.outputs.list_outputs(job.id)

    assert (curves.display_name, curves.ds_key, curves.size_mb) == ("Hazard Curves", "hcurves", 0.5)
    assert (maps.job_id, maps.size_mb) == (job.id, None)
    assert client.jobs.get_job(job.id).size_mb == 3
    with pytest.raises(errors.NotFoundError):
        client.outputs.list_outputs(99)


def test_repeated_request_takes_effect_once(dbserver: LocalDbServer, client: DbClient) -> None:
    """A request id that comes again gets the first answer and changes nothing."""
    with grpc_channels.open_channel(dbserver.settings.dbserver_address, dbserver.settings.authkey) as channel:
        calls = engine_calls_pb2_grpc.EngineCallsStub(channel)
        request = engine_calls_pb2.CallRequest(
            request_id="one",
            action="create_job",
            args=map(engine_values.encode, ["/tmp", "classical", "d", "ada"]),
        )
        create = jobs_pb2.CreateJobRequest(request_id="two", user_name="ada", data_dir="/tmp")
        append = logs_pb2.AppendLogRequest(request_id="three", job_id=1, lines=[logs_pb2.LogLine()])

        answers = [calls.Call(request) for _ in range(2)]
        jobs = [jobs_pb2_grpc.JobsStub(channel).CreateJob(create) for _ in range(2)]
        acknowledged = list(logs_pb2_grpc.LogsStub(channel).AppendLog(iter([append, append])))

        assert answers[0] == answers[1]
        assert jobs[0] == jobs[1]
        assert [each.stored_count for each in acknowledged] == [1, 0]
        assert [job.id for job in client.jobs.list_jobs()] == [2, 1]
        request.request_id = "two"
        with pytest.raises(grpc.RpcError, match="used for CreateJob before"):
            calls.Call(request)
        with pytest.raises(grpc.RpcError, match="needs a request_id"):
            jobs_pb2_grpc.JobsStub(channel).CreateJob(jobs_pb2.CreateJobRequest())


@pytest.mark.parametrize(
    ("action", "args", "error", "reason"),
    [
        ("no_such_action", (), errors.UsageError, "knows no action 'no_such_action'"),
        ("workers_start", ({},), errors.UsageError, "the broker starts and stops workers"),
        ("get_job", (), errors.UsageError, "wrong arguments"),
        ("get_job", ("one",), errors.UsageError, "get_job refuses its arguments"),
        ("update_job", (1, {"id": 2}), errors.UsageError, "no columns"),
        ("finish", (1, "gone"), errors.UsageError, "no state of a job"),
        ("create_job", ("/tmp", "m", "d", "u", 99), errors.StateError, "FOREIGN KEY"),
        ("get_output", (99,), errors.NotFoundError, "no output 99"),
        ("SELECT nonsense FROM job", (), errors.UsageError, "no such column"),
        ("SELECT 1; DELETE FROM job", (), errors.UsageError, "one statement"),
        ("SELECT id FROM job WHERE id=?x", ([1],), errors.UsageError, "refuses the SQL"),
        ("DELETE FROM job", (), errors.QuakeGridError, "would write"),
        ("PRAGMA user_version = 7", (), errors.QuakeGridError, "may only read"),
        ("fetch", ("ATTACH '/tmp/x' AS x",), errors.QuakeGridError, "may only read"),
        ("fetch", ("UPDATE job SET status='x'",), errors.QuakeGridError, "may only read"),
    ],
)
def test_call_refuses_in_one_line(
    client: DbClient, action: str, args: tuple[Any, ...], error: type[Exception], reason: str
) -> None:
    """What cannot be done is refused by its name, and the dbserver goes on."""
    new_job(client)

    with pytest.raises(error, match=reason) as refusal:
        client.call(action, *args)

    assert "\n" not in str(refusal.value)
    assert len(client.jobs.list_jobs()) == 1


def test_call_knows_the_caller(client: DbClient) -> None:
    """A job without a user name belongs to who calls."""
    job_id = client.call("create_job", "/tmp", "classical", "d", None, user_name="eve")

    assert client.jobs.get_job(job_id).user_name == "eve"


def test_log_of_a_missing_job_is_dropped(client: DbClient) -> None:
    """As upstream: a calculation does not fail for a log line."""
    assert client.call("log", 99, TIME, "INFO", "p", "m") is None


def test_vacuum_and_pid_are_served(dbserver_process: Service) -> None:
    """Calls beside the tables work."""
    assert dbserver_process.process is not None
    with DbClient(dbserver_process.settings) as client:
        client.call("VACUUM")

        assert client.call("getpid") == dbserver_process.process.pid
        assert client.call("get_dbpath") == str(dbserver_process.settings.database)


def test_one_bad_write_among_many_spoils_none(client: DbClient) -> None:
    """Writes that share a transaction fail alone."""
    job = new_job(client)

    def write(number: int) -> bool:
        try:
            client.logs.append_log(job.id if number % 3 else 99, [line(str(number))])
        except errors.NotFoundError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        stored = list(pool.map(write, range(300)))

    expected = [number for number in range(300) if number % 3]
    assert [number for number in range(300) if stored[number]] == expected
    assert sorted(map(int, messages(client, job.id))) == expected
