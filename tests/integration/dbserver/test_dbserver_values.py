"""Values that do not fit: refused where they enter, and harmless where an older database has them."""

from __future__ import annotations

import datetime as dt
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import pytest

from quakegrid import errors
from quakegrid.api.v1 import (
    database_pb2,
    database_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    logs_pb2,
    logs_pb2_grpc,
    tags_pb2,
    tags_pb2_grpc,
    values_pb2,
)
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.clients.dbserver.job_watch import JobSnapshot, watch_jobs
from quakegrid.clients.dbserver.tags import TagsClient
from quakegrid.internal.v1 import engine_calls_pb2
from quakegrid.jobs import engine_values, row_ids
from quakegrid.jobs.filters import JobFilter, JobOrder
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import LogLine
from quakegrid.services.dbserver.jobs import columns, field_checks
from quakegrid.services.dbserver.rpc import tags as tags_server
from quakegrid.services.dbserver.store import schema
from quakegrid.settings.config import Settings
from quakegrid.transport import grpc_channels
from tests.support.dbservers import serving

TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
LONG = "x" * (field_checks.LONGEST_TEXT + 1)
BEYOND = row_ids.LARGEST_ID + 1
INSERT = (
    "INSERT INTO job (description, user_name, calculation_mode, ds_calc_dir, status, is_running, "
    "start_time, stop_time, pid, size_mb) VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, ?)"
)
GOOD = ("good", "ada", "classical", "/d", "complete", "2026-01-01 00:00:00", None, 0, 1.5)


@pytest.fixture
def client(settings: Settings) -> Iterator[DbClient]:
    """A client of a dbserver."""
    with serving(settings), DbClient(settings) as client:
        yield client


@pytest.fixture
def channel(client: DbClient) -> grpc.Channel:
    """The client's connection, for messages that it would not send."""
    return client.connection.channel


def new_job_id(client: DbClient, description: str = "d") -> int:
    """The id of a new job."""
    return client.jobs.create_job(
        data_dir="/d", calculation_mode="c", description=description, user_name="ada"
    ).id


def prepare(settings: Settings, rows: list[tuple[Any, ...]]) -> None:
    """A database with rows that a dbserver would not take."""
    settings.database.parent.mkdir()
    schema.prepare_database(settings.database)
    with closing(sqlite3.connect(settings.database)) as connection:
        connection.executemany(INSERT, rows)
        connection.commit()


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("update_job", (1, {"pid": 1.5})),
        ("update_job", (1, {"start_time": "x"})),
        ("update_job", (1, {"stop_time": 5})),
        ("update_job", (1, {"description": b"bytes"})),
        ("update_job", (1, {"description": LONG})),
        ("update_job", (1, {"description": None})),
        ("update_job", (1, {"is_running": "yes"})),
        ("update_job", (1, {"size_mb": "large"})),
        ("update_job", (1, {"host": 1})),
        ("update_job", (1, {"hazard_calculation_id": BEYOND})),
        ("update_job", (1, {"status": "pre_executing"})),
        ("update_job", (1, {"nonsense": 1})),
        ("create_job", ("/d", "c", LONG)),
        ("create_job", ("/d", 1, "d")),
        ("create_job", (b"/d", "c", "d")),
        ("import_job", (BEYOND, "c", "d", "u", "complete", None, "/d")),
        ("import_job", (7, "c", b"d", "u", "complete", None, "/d")),
        ("log", (1, "no time", "INFO", "p", "m")),
        ("log", (1, TIME, "INFO", "p", b"m")),
        ("create_outputs", (1, [[b"key", "name", 1.0]], 1.0)),
        ("create_outputs", (1, [["key", "name", "large"]], 1.0)),
        ("create_outputs", (1, [["key", "name"]], 1.0)),
        ("create_outputs", (1, [["key", "name", 1.0]], "large")),
        ("finish", (1, "failed", b"why")),
        ("finish", (1, "ended")),
        ("update_job_checksum", (1, "sum")),
        ("update_parent_child", ("1", 1)),
        ("create_tag", (b"tag",)),
        ("add_tag_to_job", (1, "t" * 1001)),
        ("UPDATE job SET ds_calc_dir = ?x WHERE id=?x", (b"/d", 1)),
        ("UPDATE job SET hazard_calculation_id=?x WHERE id=?x", ("x", 1)),
    ],
)
def test_engine_call_with_a_value_of_a_wrong_kind_is_refused(
    client: DbClient, action: str, args: tuple[Any, ...]
) -> None:
    """Nothing is stored, whatever the action; a list shows the job as it was."""
    before = client.jobs.get_job(new_job_id(client))

    with pytest.raises(errors.UsageError):
        client.call(action, *args)

    assert client.jobs.list_jobs() == [before]
    assert client.logs.get_log_size(1) == 0
    assert client.outputs.list_outputs(1) == []


def test_calls_with_texts_that_are_too_long_are_refused(client: DbClient) -> None:
    """Descriptions have 1 MiB at most, names 1000 characters; the words say so."""
    new_job_id(client)

    with pytest.raises(errors.UsageError, match="description has 1048577 characters; at most 1048576"):
        new_job_id(client, LONG)
    with pytest.raises(errors.UsageError, match="at most 1048576"):
        client.jobs.update_job(1, "ada", description=LONG)
    with pytest.raises(errors.UsageError, match="at most 1000"):
        TagsClient(client).add(1, "t" * 1001)
    with pytest.raises(errors.UsageError, match="at most 1000"):
        client.jobs.renew_hold(1, "h" * 1001, 30)
    assert [job.description for job in client.jobs.list_jobs()] == ["d"]


def test_log_line_that_is_too_long_is_cut(client: DbClient) -> None:
    """A line is worth more than an error about its length; its end says what is missing."""
    job_id = new_job_id(client)

    client.logs.append_log(
        job_id, [LogLine(TIME, "INFO", "p", 2 * LONG), LogLine(TIME, "L" * 2000, "p", "m")]
    )
    client.call("log", job_id, TIME, "INFO", "p", 2 * LONG)

    first, second, third = client.logs.list_log(job_id)
    assert len(first.message) < 1.1 * len(LONG)
    assert first.message.endswith("more characters were left out)")
    assert third.message == first.message
    assert second.level.startswith("L" * 1000 + " ...")


@pytest.mark.parametrize(
    "stamp", [{"nanos": -1}, {"nanos": 2_000_000_000}, {"seconds": 1 << 60}, {"seconds": -(1 << 60)}]
)
def test_times_out_of_range_are_refused(
    client: DbClient, channel: grpc.Channel, stamp: dict[str, int]
) -> None:
    """In log lines, filters, parameters of queries and arguments of engine calls: as the caller's error."""
    job_id = new_job_id(client)
    line = logs_pb2.LogLine(log_time=stamp, level="INFO", process="p", message="m")
    batch = logs_pb2.AppendLogRequest(job_id=job_id, request_id="1", lines=[line])
    argument = values_pb2.Value(time=stamp)
    jobs = jobs_pb2_grpc.JobsStub(channel)
    calls: list[Any] = [
        lambda: list(logs_pb2_grpc.LogsStub(channel).AppendLog(iter([batch]))),
        lambda: jobs.ListJobs(jobs_pb2.ListJobsRequest(start_min_time=stamp)),
        lambda: jobs.ListJobs(jobs_pb2.ListJobsRequest(start_max_time=stamp)),
        lambda: database_pb2_grpc.DatabaseStub(channel).Query(
            database_pb2.QueryRequest(sql="SELECT ?", parameters=[argument])
        ),
        lambda: client._calls.call(
            engine_calls_pb2.CallRequest(request_id="2", action="SELECT ?x", args=[argument]), 10
        ),
    ]

    codes = []
    for call in calls:
        with pytest.raises(grpc.RpcError) as refusal:
            call()
        codes.append(refusal.value.code())

    assert codes == [grpc.StatusCode.INVALID_ARGUMENT] * len(calls)
    assert client.logs.get_log_size(job_id) == 0


def test_uneven_dictionary_is_refused(channel: grpc.Channel) -> None:
    """More names than values are the caller's error."""
    odd = values_pb2.Value()
    odd.dictionary.keys.append("name")
    row = values_pb2.Value()
    row.row.fields.append("name")
    for value in (odd, row):
        with pytest.raises(grpc.RpcError) as refusal:
            database_pb2_grpc.DatabaseStub(channel).Query(
                database_pb2.QueryRequest(sql="SELECT ?", parameters=[value])
            )
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_rows_of_older_databases_spoil_no_list(settings: Settings) -> None:
    """Odd kinds, statuses and times are shown as well as can be; the good rows are as ever."""
    odd: dict[str, tuple[Any, ...]] = {
        "bytes": (b"\xff\x00bytes", b"ada", b"c", b"/d", b"complete", "2026", None, 1.5, "large"),
        "times": ("times", "ada", "c", "/d", "complete", "x", b"\xff", "pid", 1),
        "zone": ("zone", "ada", "c", "/d", "complete", "0001-01-01 00:00:00+14:00", None, 0, None),
        "pre": ("pre", "ada", "c", "/d", "pre_executing", "2026-01-01 00:00:00", None, 0, None),
        "huge": ("h" * 30_000_000, "u" * 5_000, "c", "/d", "complete", "2026-01-01 00:00:00", None, 0, 1),
    }
    prepare(settings, [GOOD, *odd.values(), *[odd["huge"]] * 2])

    with serving(settings), DbClient(settings) as client:
        jobs = client.jobs.list_jobs()
        snapshot = next(watch_jobs(client))
        for order in JobOrder:
            assert len(client.jobs.list_jobs(order=order)) == len(jobs)

        assert isinstance(snapshot, JobSnapshot)
        assert list(snapshot.jobs) == jobs
        good = client.jobs.get_job(1)
        assert (jobs[-1], good.description, good.state, good.size_mb) == (good, "good", "complete", 1.5)
        assert [len(job.description) for job in jobs[:3]] == [columns.LONGEST_LISTED] * 3
        assert jobs[0].description.endswith("h…")
        assert len(client.jobs.get_job(8).description) == field_checks.LONGEST_TEXT
        pre = client.jobs.get_job(5)
        assert (pre.state, "pre_executing" in pre.state_reason) == (JobState.FAILED, True)
        assert pre in client.jobs.list_jobs(wanted=JobFilter(states=[JobState.FAILED]))
        assert pre not in client.jobs.list_jobs(wanted=JobFilter(states=[JobState.COMPLETE]))
        with pytest.raises(errors.StateError, match="is failed and cannot become executing"):
            client.jobs.transition(5, JobState.EXECUTING)


def test_outputs_and_tags_of_older_databases_spoil_no_list(settings: Settings) -> None:
    """Odd kinds are shown as well as can be, and long names are cut."""
    prepare(settings, [GOOD])
    with closing(sqlite3.connect(settings.database)) as connection:
        insert = "INSERT INTO output (oq_job_id, display_name, ds_key, size_mb) VALUES (1, ?, ?, ?)"
        connection.executemany(insert, [(b"name\xff", b"key", "large"), ("n" * 30_000_000, "key", 1.5)])
        connection.execute("INSERT INTO tag (name) VALUES (?)", (b"tag",))
        connection.execute("INSERT INTO job_tag (job_id, tag_id) VALUES (1, 1)")
        connection.commit()

    with serving(settings), DbClient(settings) as client:
        first, second = client.outputs.list_outputs(1)
        tags = TagsClient(client).list_tags()

    assert (first.display_name, first.ds_key, first.size_mb) == ("name\N{REPLACEMENT CHARACTER}", "key", None)
    assert (len(second.display_name), second.size_mb) == (columns.LONGEST_LISTED, 1.5)
    assert [(tag.name, tag.job_ids) for tag in tags] == [("tag", (1,))]


def test_log_lines_of_older_databases_spoil_no_log(settings: Settings) -> None:
    """Bytes and odd times in a line are shown as well as can be."""
    prepare(settings, [GOOD])
    with closing(sqlite3.connect(settings.database)) as connection:
        insert = "INSERT INTO log (job_id, timestamp, level, process, message) VALUES (1, ?, ?, 'p', ?)"
        connection.executemany(insert, [("x", "INFO", b"\xff"), ("2026-01-01 00:00:00.-00001", b"W", "m")])
        connection.commit()

    with serving(settings), DbClient(settings) as client:
        lines = list(client.logs.list_log(1))

    assert [(line.level, line.message) for line in lines] == [
        ("INFO", b"\xff".hex().upper()),
        (b"W".hex(), "m"),
    ]


@pytest.mark.parametrize("wanted", ["ZÜRICH", "zürich", "Zu\u0308rich", "STRASSE", "hazard"])
def test_search_finds_any_case_of_letters(client: DbClient, wanted: str) -> None:
    """Also outside ASCII, and however an umlaut is written."""
    new_job_id(client, "Hazard of Bern")
    job_id = new_job_id(client, "HAZARD of Zürich, Straße 5")

    found = client.jobs.list_jobs(wanted=JobFilter(description_text=wanted))

    assert job_id in [job.id for job in found]
    assert client.jobs.list_jobs(wanted=JobFilter(description_text="GENÈVE")) == []


def test_id_beyond_the_oldest_job_is_refused(client: DbClient) -> None:
    """A negative id counts one's own jobs from the last one, and never stands for another one."""
    for _ in range(3):
        new_job_id(client)

    assert client.jobs.get_job(-3).id == 1
    with pytest.raises(errors.NotFoundError, match=r"there are 3 jobs; -3 is the oldest"):
        client.jobs.get_job(-4)
    with pytest.raises(errors.NotFoundError, match=r"there are 3 jobs of ada; -3 is the oldest"):
        client.jobs.get_job(-(10**6), "ada")
    with pytest.raises(errors.NotFoundError, match="there is no job -1 of bob"):
        client.jobs.get_job(-1, "bob")
    assert client.call("get_job", -4) is None
    assert client.call("set_status", -4, "failed") == 0
    for call in (
        lambda: client.jobs.delete_job(-1, "ada", delete_files=False),
        lambda: client.jobs.transition(-1, JobState.ABORTED),
        lambda: client.jobs.share_job(-1, "ada"),
        lambda: TagsClient(client).add(-1, "tag"),
    ):
        with pytest.raises(errors.NotFoundError):
            call()


@pytest.mark.parametrize("job_id", [1 << 53, 1 << 63, -(1 << 70), 10**30])
def test_huge_id_is_refused_in_words(client: DbClient, job_id: int) -> None:
    """Whatever is asked for, no number ends in an error of protobuf or SQLite."""
    calls: list[Any] = [
        lambda: client.jobs.get_job(job_id),
        lambda: client.jobs.transition(job_id, JobState.ABORTED),
        lambda: client.jobs.delete_job(job_id, "ada", delete_files=False),
        lambda: client.jobs.share_job(job_id, "ada"),
        lambda: client.jobs.renew_hold(job_id, "h", 30),
        lambda: client.logs.append_log(job_id, [LogLine(TIME, "INFO", "p", "m")]),
        lambda: list(client.logs.list_log(job_id)),
        lambda: list(client.logs.tail_log(job_id)),
        lambda: client.logs.get_log_size(job_id),
        lambda: client.logs.get_traceback(job_id),
        lambda: client.outputs.list_outputs(job_id),
        lambda: client.outputs.get_output(job_id),
        lambda: client.jobs.create_job(
            data_dir="/d",
            calculation_mode="c",
            description="d",
            user_name="u",
            hazard_calculation_id=job_id,
        ),
        lambda: TagsClient(client).add(job_id, "tag"),
        lambda: TagsClient(client).list_tags(job_id),
    ]
    for call in calls:
        with pytest.raises(errors.NotFoundError, match="there is no"):
            call()


def test_page_token_is_for_the_same_filters(client: DbClient, channel: grpc.Channel) -> None:
    """With another filter it would leave out jobs in silence."""
    for _ in range(3):
        new_job_id(client)
    stub = jobs_pb2_grpc.JobsStub(channel)
    first = stub.ListJobs(jobs_pb2.ListJobsRequest(page_size=1, user_name="ada"))
    request = jobs_pb2.ListJobsRequest(page_size=2, page_token=first.next_page_token, user_name="ada")

    assert [job.id for job in stub.ListJobs(request).jobs] == [2, 1]
    request.user_name = ""
    with pytest.raises(grpc.RpcError, match="no page token of this list"):
        stub.ListJobs(request)


def test_times_go_there_and_back_to_the_ends_of_the_calendar() -> None:
    """The first and the last instant that Python has."""
    for time in (dt.datetime.min, dt.datetime.max):  # noqa: DTZ901  made aware in the next line
        aware = time.replace(tzinfo=dt.UTC)
        assert engine_values.from_timestamp(engine_values.to_timestamp(aware)) == aware


def test_watcher_keeps_the_jobs_packed(settings: Settings) -> None:
    """Parts of a large snapshot come in order, whole, and the last one says so."""
    prepare(settings, [GOOD] * 1201)

    with (
        serving(settings),
        grpc_channels.open_channel(settings.dbserver_address, settings.authkey) as channel,
    ):
        watch = jobs_pb2_grpc.JobsStub(channel).WatchJobs(jobs_pb2.WatchJobsRequest())
        parts = [next(watch).snapshot for _ in range(3)]
        watch.cancel()

    assert [len(part.jobs) for part in parts] == [500, 500, 201]
    assert [part.is_complete for part in parts] == [False, False, True]
    assert [job.id for part in parts for job in part.jobs] == list(range(1201, 0, -1))


def test_tags_with_many_jobs_come_in_more_pages(client: DbClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends before the tag with which it would have too many jobs, and no tag is left out."""
    monkeypatch.setattr(tags_server, "MAX_PAGE_JOBS", 3)
    tags = TagsClient(client)
    job_ids = [new_job_id(client) for _ in range(4)]
    for name, count in (("a", 2), ("b", 2), ("c", 1), ("d", 4), ("e", 0)):
        tags.create(name)
        for job_id in job_ids[:count]:
            tags.add(job_id, name)
    tags.prefer(2, "b")

    sizes = []
    request = tags_pb2.ListTagsRequest()
    while not sizes or request.page_token:
        response = tags_pb2_grpc.TagsStub(client.connection.channel).ListTags(request)
        sizes.append(len(response.tags))
        request.page_token = response.next_page_token

    assert sizes == [1, 2, 1, 1]
    assert [(tag.name, len(tag.job_ids)) for tag in tags.list_tags()] == [
        ("a", 2),
        ("b", 2),
        ("c", 1),
        ("d", 4),
        ("e", 0),
    ]
    assert [tag.preferred_job_id for tag in tags.list_tags()] == [None, 2, None, None, None]


@pytest.mark.parametrize("letter", ["x", "%", "é", "\U0001f30d"])
def test_refusal_that_quotes_a_long_text_arrives(client: DbClient, letter: str) -> None:
    """As the error that it is, with its beginning and its end: not as one that clients try again after."""
    words = f"^there is no job -1 of {letter}.* shows those there are$"
    for count in (500, 1900, 70_000):
        with pytest.raises(errors.NotFoundError, match=words):
            client.jobs.get_job(-1, letter * count)
