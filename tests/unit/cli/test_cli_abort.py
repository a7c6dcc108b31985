"""The command `abort`: whose jobs it takes, and when it asks."""

from __future__ import annotations

import getpass
from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar, Self

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli import abort, options
from quakegrid.jobs.filters import JobFilter
from quakegrid.jobs.values import Job
from tests.unit.cli.test_cli_jobs import make_job


class FakeDatabase:
    """Job 3 is somebody else's; jobs 1 and 2 are Ann's."""

    def __init__(self, _settings: object) -> None:
        self._found = {1: make_job(1), 2: make_job(2), 3: make_job(3, user_name="bob")}
        self.jobs = self

    @property
    def user_name(self) -> str:
        """Who asks."""
        return getpass.getuser()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass

    def get_job(self, job_id: int) -> Job:
        """By id."""
        if job_id not in self._found:
            raise errors.NotFoundError(f"there is no job {job_id}")
        return self._found[job_id]

    def list_jobs(self, limit: int, wanted: JobFilter) -> list[Job]:
        """Newest first."""
        found = [job for job in self._found.values() if job.user_name == wanted.user_name]
        return sorted(found, key=lambda job: -job.id)[:limit]


class FakeBroker:
    """Remembers what it was told to abort."""

    aborted: ClassVar[list[int]] = []

    def __init__(self, _settings: object) -> None:
        self.aborted.clear()

    def close(self) -> None:
        """Nothing is open."""

    def status(self) -> SimpleNamespace:
        """A session of a program of each."""
        sessions = [
            SimpleNamespace(session_id=number, user_name=name)
            for number, name in ((1764000000000, "ann"), (1764000000001, "bob"))
        ]
        return SimpleNamespace(sessions=sessions)

    def abort_job(self, job_id: int) -> bool:
        """All run."""
        self.aborted.append(job_id)
        return True


@pytest.fixture(autouse=True)
def services(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command talks to the fakes, as Ann."""
    monkeypatch.setattr(abort, "DbClient", FakeDatabase)
    monkeypatch.setattr(abort.fleet, "BrokerClient", FakeBroker)
    monkeypatch.setattr(options, "cluster_settings", SimpleNamespace)
    monkeypatch.setenv("LOGNAME", "ann")


def invoke(*args: str) -> Result:
    """Run `quakegrid abort ...` without a terminal; our own errors come out as they are."""
    result = CliRunner().invoke(abort.abort, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_last_job_is_ones_own() -> None:
    """Though somebody else's is newer."""
    assert invoke("-1").stderr == "job 2 aborted\n"
    assert FakeBroker.aborted == [2]


def test_job_of_somebody_else_wants_a_yes() -> None:
    """Nothing is aborted before all is clear."""
    with pytest.raises(errors.UsageError, match=r"job 3 .* belongs to bob; .*--yes"):
        invoke("3", "1")
    assert FakeBroker.aborted == []

    assert invoke("3", "1", "--yes").exit_code == 0
    assert FakeBroker.aborted == [3, 1]


def test_question_shows_no_control_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    """A description is anybody's text."""
    evil = replace(make_job(3, user_name="b\x1b[2Job"), description="x\ny")
    monkeypatch.setattr(FakeDatabase, "get_job", lambda _self, _job_id: evil)

    with pytest.raises(errors.UsageError) as refused:
        invoke("3")

    assert r"job 3 (x\ny) belongs to b\x1b[2Job;" in str(refused.value)


@pytest.mark.parametrize(
    ("number", "words"), [("-3", "you (ann) have 2 jobs; -2 is the oldest"), ("9", "there is no job 9")]
)
def test_number_without_a_job_fails_and_the_others_are_aborted(number: str, words: str) -> None:
    """In words, with exit code 1."""
    result = invoke(number, "2")

    assert result.exit_code == 1
    assert words in result.stderr
    assert FakeBroker.aborted == [2]


def test_session_of_a_program_is_aborted_by_its_id() -> None:
    """That of somebody else wants a yes."""
    assert invoke("1764000000000").stderr == "session 1764000000000 aborted\n"
    assert FakeBroker.aborted == [1764000000000]

    with pytest.raises(errors.UsageError, match=r"session 1764000000001 belongs to bob; .*--yes"):
        invoke("1764000000001")


def test_number_that_no_job_can_have_is_a_usage_error() -> None:
    """Beyond 64 bits."""
    assert invoke("9223372036854775808").exit_code == 2
