"""The commands `jobs ...` against an in-memory database."""

from __future__ import annotations

import dataclasses
import datetime
import getpass
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.api.v1 import fleet_pb2
from quakegrid.cli import exports, jobs, options
from quakegrid.clients import broker, drivers
from quakegrid.clients.broker import FleetStatus, TaskTotals
from quakegrid.clients.dbserver.job_watch import JobEvent, JobSnapshot
from quakegrid.clients.dbserver.jobs import DeletedFiles
from quakegrid.clients.dbserver.tags import Tag
from quakegrid.jobs.filters import JobFilter, JobOrder
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job, LogLine, Output

START = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def make_job(job_id: int, state: JobState = JobState.COMPLETE, user_name: str = "ann") -> Job:
    """A job as the database holds it."""
    return Job(
        id=job_id,
        description=f"case {job_id}",
        user_name=user_name,
        calculation_mode="classical",
        hazard_calculation_id=None,
        state=state,
        is_running=False,
        start_time=START,
        stop_time=None,
        ds_calc_dir=f"/data/calc_{job_id}",
        pid=None,
        size_mb=None,
        host="",
    )


class FakeDatabase:
    """Two jobs, two log lines, one output."""

    def __init__(self, _settings: object, retry_s: float = 0.0) -> None:
        assert retry_s >= 0
        self._found = {job.id: job for job in (make_job(2), make_job(1, JobState.FAILED))}
        self.jobs = self.logs = self.outputs = self

    @property
    def user_name(self) -> str:
        """Who asks."""
        return getpass.getuser()

    def close(self) -> None:
        """Nothing is open."""

    def get_job(self, job_id: int, user_name: str = "") -> Job:
        """By id; the client counts from the end by itself."""
        assert (job_id > 0, user_name) == (True, "")
        if job_id not in self._found:
            raise errors.NotFoundError(f"there is no job {job_id}")
        return self._found[job_id]

    def list_jobs(
        self, limit: int, wanted: JobFilter, order: JobOrder = JobOrder.ID, *, is_ascending: bool = False
    ) -> list[Job]:
        """Newest first."""
        assert (order, is_ascending) == (JobOrder.ID, False)
        found = [job for job in self._found.values() if not wanted.states or job.state in wanted.states]
        found = [job for job in found if wanted.calculation_mode in {"", job.calculation_mode}]
        return [job for job in found if wanted.user_name in {"", job.user_name}][:limit]

    def share_job(self, job_id: int, user_name: str) -> Job:
        """Only one's own."""
        assert user_name
        return dataclasses.replace(self._found[job_id], state=JobState.SHARED)

    def unshare_job(self, job_id: int, user_name: str) -> Job:
        """Take it back."""
        assert user_name
        return self._found[job_id]

    def list_log(self, job_id: int, tail_count: int = 0) -> Iterator[LogLine]:
        """Two lines, or the last ones."""
        lines = [
            LogLine(START, "INFO", "main", f"first of {job_id}", 1),
            LogLine(START, "WARNING", "main", "second", 2),
        ]
        return iter(lines[-tail_count:])

    def tail_log(self, job_id: int, after_id: int = 0) -> Iterator[LogLine]:
        """What comes later."""
        return (line for line in self.list_log(job_id) if line.id > after_id)

    def list_outputs(self, job_id: int) -> list[Output]:
        """One output."""
        return [Output(12, job_id, "Hazard Curves", "hcurves", 0.5)]

    def delete_job_and_files(self, job_id: int, user_name: str) -> DeletedFiles:
        """Say which files went, and which one is another account's."""
        assert user_name
        return DeletedFiles([f"/data/calc_{job_id}.hdf5"], [f"/data/calc_{job_id}_tmp.hdf5"])


@pytest.fixture(autouse=True)
def database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands talk to the fake."""
    monkeypatch.setattr(jobs, "DbClient", FakeDatabase)
    monkeypatch.setattr(exports, "DbClient", FakeDatabase)
    monkeypatch.setenv("LOGNAME", "ann")
    monkeypatch.setattr(options, "cluster_settings", lambda: SimpleNamespace(credential=None))


def invoke(*args: str) -> Result:
    """Run `quakegrid jobs ...`; our own errors come out as they are."""
    result = CliRunner().invoke(jobs.jobs, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_list_shows_jobs_newest_first() -> None:
    """Ids, states and descriptions."""
    assert invoke("list", "--output", "quiet").stdout == "2\n1\n"
    assert "case 1" in invoke("list").stdout


def test_list_filters_by_state() -> None:
    """`--state` leaves the others out."""
    found = json.loads(invoke("list", "--state", "failed", "--output", "json").stdout)

    assert [job["id"] for job in found] == [1]
    assert found[0]["start_time"] == "2026-01-02T03:04:05+00:00"


def test_list_passes_all_filters_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every option ends in the filter; days are the user's own."""
    seen: list[JobFilter] = []

    def list_jobs(
        _self: object, limit: int, wanted: JobFilter, order: JobOrder, *, is_ascending: bool
    ) -> list[Job]:
        assert (limit, order, is_ascending) == (5, JobOrder.SIZE, True)
        seen.append(wanted)
        return []

    monkeypatch.setattr(FakeDatabase, "list_jobs", list_jobs)

    invoke(
        *("list", "--user", "ann", "--state", "failed", "--state", "aborted", "--mode", "classical"),
        *("--text", "case", "--tag", "paper", "--since", "2026-01-02", "--before", "2026-01-03T04:05:06"),
        *("--limit", "5", "--sort", "size", "--ascending"),
    )

    (wanted,) = seen
    assert (wanted.user_name, wanted.calculation_mode) == ("ann", "classical")
    assert list(wanted.states) == [JobState.FAILED, JobState.ABORTED]
    assert (wanted.description_text, wanted.tag) == ("case", "paper")
    assert wanted.start_min_time == datetime.datetime(2026, 1, 2).astimezone()
    assert wanted.start_max_time == datetime.datetime(2026, 1, 3, 4, 5, 6).astimezone()


def test_list_refuses_what_is_no_day() -> None:
    """A wrong date is a usage error."""
    assert invoke("list", "--since", "whenever").exit_code == 2


def test_share_and_unshare_say_what_they_did() -> None:
    """The nth last is one of one's own."""
    assert "job 2 is shared" in invoke("share", "-1").stderr
    assert "job 2 is not shared" in invoke("unshare", "2").stderr


def watched() -> list[JobSnapshot | JobEvent]:
    """A snapshot with a job that runs and one that has ended, then a life of a third."""
    running, ended = make_job(2, JobState.EXECUTING), make_job(1)
    moves = [(None, JobState.CREATED), (JobState.CREATED, JobState.FAILED), (JobState.FAILED, None)]
    return [
        JobSnapshot((running, ended)),
        *(JobEvent(number, 3, START, old, new, make_job(3)) for number, (old, new) in enumerate(moves)),
    ]


def test_watch_prints_a_line_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has not ended first, then each change."""
    monkeypatch.setattr(jobs.job_watch, "watch_jobs", lambda _database, _user: iter(watched()))

    lines = invoke("watch").stdout.splitlines()

    assert [line.split("  ", 1)[1].split("  ")[0].strip() for line in lines] == [
        "job 2 is executing",
        "job 3 is created",
        "job 3 created -> failed",
        "job 3 is gone",
    ]
    assert lines[1].endswith("ann: case 3")


def test_watch_prints_json_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line is a document: the snapshot, then events."""
    monkeypatch.setattr(jobs.job_watch, "watch_jobs", lambda _database, _user: iter(watched()))

    snapshot, *events = map(json.loads, invoke("watch", "--json").stdout.splitlines())

    assert [job["id"] for job in snapshot["jobs"]] == [2, 1]
    assert [(event["old_state"], event["new_state"]) for event in events] == [
        (None, "created"),
        ("created", "failed"),
        ("failed", None),
    ]


class FakeTags:
    """Remembers what was asked for."""

    calls: ClassVar[list[tuple[Any, ...]]] = []

    def __init__(self, _database: object, user_name: str) -> None:
        assert user_name == "ann"
        self.calls.clear()

    def add(self, job_id: int, name: str) -> None:
        """Give."""
        self.calls.append(("add", job_id, name))

    def remove(self, job_id: int, name: str) -> None:
        """Take."""
        self.calls.append(("remove", job_id, name))

    def prefer(self, job_id: int, name: str) -> None:
        """Prefer."""
        self.calls.append(("prefer", job_id, name))

    def list_tags(self, job_id: int) -> list[Tag]:
        """Two."""
        return [Tag("paper", (1, job_id), job_id), Tag("test", (job_id,), None)]


@pytest.mark.parametrize(("flag", "act"), [((), "add"), (("--remove",), "remove"), (("--prefer",), "prefer")])
def test_tag_changes_then_lists(monkeypatch: pytest.MonkeyPatch, flag: tuple[str, ...], act: str) -> None:
    """Names are given, taken or preferred; without names nothing changes."""
    monkeypatch.setattr(jobs, "TagsClient", FakeTags)

    found = json.loads(invoke("tag", "-1", "paper", *flag, "--output", "json").stdout)

    assert FakeTags.calls == [(act, 2, "paper")]
    assert found[0] == {"name": "paper", "is_preferred": True, "job_count": 2}
    assert invoke("tag", "2", "--output", "quiet").stdout == "paper\ntest\n"
    assert FakeTags.calls == []


def test_tag_refuses_to_give_and_take() -> None:
    """One thing at a time."""
    with pytest.raises(errors.UsageError, match="exclude each other"):
        invoke("tag", "2", "paper", "--remove", "--prefer")


@pytest.mark.parametrize(("job_id", "found"), [("2", 2), ("-1", 2), ("-2", 1)])
def test_show_takes_ids_and_counts_from_the_end(job_id: str, found: int) -> None:
    """A negative id is an argument, not an option."""
    assert json.loads(invoke("show", job_id, "--output", "json").stdout)["id"] == found


def test_unknown_job_is_told() -> None:
    """The database's own words."""
    with pytest.raises(errors.NotFoundError, match="no job 7"):
        invoke("show", "7")


def test_unknown_option_is_still_refused() -> None:
    """Negative ids cost no checking of options."""
    assert invoke("show", "1", "--outputt", "json").exit_code == 2


def test_logs_print_time_level_and_message() -> None:
    """All lines, or the last ones."""
    lines = invoke("logs", "-1").stdout.splitlines()

    assert lines[0].endswith("INFO     first of 2")
    assert len(lines) == 2
    assert len(invoke("logs", "2", "--tail", "1").stdout.splitlines()) == 1


def test_logs_follow_prints_each_line_once() -> None:
    """The tail that was shown is not sent again."""
    lines = invoke("logs", "2", "--follow", "--tail", "1", "--output", "json").stdout.splitlines()

    assert [json.loads(line)["message"] for line in lines] == ["second"]


def test_outputs_are_listed() -> None:
    """Name and key."""
    found = json.loads(invoke("outputs", "2", "--output", "json").stdout)

    assert found[0]["display_name"] == "Hazard Curves"


def test_delete_without_a_terminal_wants_yes() -> None:
    """A script must say that it means it."""
    with pytest.raises(errors.UsageError, match="--yes"):
        invoke("delete", "2")

    told = invoke("delete", "2", "--yes").stderr
    assert "removed: /data/calc_2.hdf5" in told
    assert "soon removed, by the master's web service: /data/calc_2_tmp.hdf5" in told


@pytest.mark.parametrize(("user", "whose"), [("ann", ""), ("bob", " of ann")])
def test_delete_asks_with_the_name_of_another_owner(
    monkeypatch: pytest.MonkeyPatch, user: str, whose: str
) -> None:
    """An operator may delete the jobs of others, and should see that it is one."""
    asked: list[str] = []

    def confirm(question: str, **_options: object) -> None:
        asked.append(question)

    monkeypatch.setenv("LOGNAME", user)
    monkeypatch.setattr(jobs.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr(jobs.click, "confirm", confirm)
    assert jobs.delete.callback is not None
    jobs.delete.callback(2, yes=False)

    assert asked == [f"Delete job 2 (case 2){whose} and its files?"]


@pytest.mark.parametrize("number", ["9223372036854775808", "-99999999999999999999", "0"])
@pytest.mark.parametrize("command", ["show", "logs", "outputs", "delete", "share", "unshare", "tag"])
def test_number_that_no_job_can_have_is_a_usage_error(command: str, number: str) -> None:
    """In words, and before anything is asked."""
    result = invoke(command, number)

    assert result.exit_code == 2
    assert f"no job has the id {number}" in result.stderr


@pytest.mark.parametrize("command", ["show", "logs", "outputs", "delete", "share", "unshare", "tag"])
def test_counting_beyond_the_oldest_job_is_refused(command: str) -> None:
    """It never means the oldest one."""
    with pytest.raises(errors.NotFoundError, match=r"you \(ann\) have 2 jobs; -2 is the oldest"):
        invoke(command, "-3")


def test_counting_without_a_job_says_that_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs of others do not count."""
    monkeypatch.setenv("LOGNAME", "bob")

    with pytest.raises(errors.NotFoundError, match=r"you \(bob\) have no jobs$"):
        invoke("show", "-1")


def driver(monkeypatch: pytest.MonkeyPatch, code: int, *events: dict[str, Any]) -> list[Sequence[str]]:
    """A driver that tells these events; what it was asked for."""
    calls: list[Sequence[str]] = []

    def run_driver(_settings: object, argv: Sequence[str], *, mode: str, on_event: Any) -> int:
        assert mode == "run"
        calls.append(argv)
        for event in events:
            on_event(event)
        return code

    monkeypatch.setattr(drivers, "run_driver", run_driver)
    return calls


def test_export_prints_what_was_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A negative number is an id before the driver hears it."""
    calls = driver(monkeypatch, 0, {"event": "exported", "paths": ["/out/a_2.csv"]})

    result = invoke("export", "-1", str(tmp_path / "new"), "--exports", "csv,xml")

    assert calls == [["export", "2", str(tmp_path / "new"), "csv,xml"]]
    assert (result.exit_code, result.stdout) == (0, "exported: /out/a_2.csv\n")


def test_export_that_fails_in_part_ends_with_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which output, why, and how to try again."""
    failure = "hcurves as csv: No space left on device"
    driver(monkeypatch, 1, {"event": "not_exported", "failures": [failure]})

    result = invoke("export", "2", str(tmp_path / "a b"))

    assert result.exit_code == 1
    assert f"not exported: {failure}" in result.stderr
    assert f"to try again: quakegrid jobs export 2 '{tmp_path}/a b'" in result.stderr


def test_export_that_is_refused_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The driver's words and code."""
    driver(monkeypatch, 2, {"event": "error", "message": "there is no export format pdf", "job_id": None})

    result = invoke("export", "2", str(tmp_path), "--exports", "pdf")

    assert (result.exit_code, result.stderr) == (2, "quakegrid: there is no export format pdf\n")


def test_export_of_a_failed_job_is_refused(tmp_path: Path) -> None:
    """It has no outputs; no driver is asked."""
    with pytest.raises(errors.StateError, match="job 1 is failed and has no outputs"):
        invoke("export", "1", str(tmp_path))


class StageBroker:
    """Job 2 has a stage; the broker may be away."""

    is_there = True

    def __init__(self, _settings: object) -> None:
        pass

    def close(self) -> None:
        """Nothing is open."""

    def status(self) -> FleetStatus:
        """One session."""
        if not self.is_there:
            raise errors.PeerUnreachableError("the broker does not answer")
        session = broker._session(
            fleet_pb2.SessionStatus(
                session_id=100,
                job_ids=[2],
                stages=[
                    fleet_pb2.StageProgress(job_id=2, operation="classical", done_count=40, total_count=100)
                ],
            )
        )
        return FleetStatus((), (session,), (), TaskTotals(), "1")


def test_show_tells_the_stage_of_a_running_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the broker knows it; without a broker, the rest is shown."""
    running = dataclasses.replace(make_job(2, JobState.EXECUTING), is_running=True)
    monkeypatch.setattr(FakeDatabase, "get_job", lambda _self, _job_id: running)
    monkeypatch.setattr(jobs, "TagsClient", lambda _database: FakeTags(_database, "ann"))
    monkeypatch.setattr(jobs.fleet, "BrokerClient", StageBroker)

    told = invoke("show", "2").stdout
    monkeypatch.setattr(StageBroker, "is_there", False)
    without = invoke("show", "2").stdout

    assert "classical, 40 of 100 tasks done\n" in told
    assert "classical, " not in without
    assert "executing" in without
