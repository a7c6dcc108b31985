"""The command `run`: its arguments for the engine, its report, what it shows."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.cli import options, run
from quakegrid.cli.following import runs
from quakegrid.cli.views import progress
from quakegrid.cli.views.run_report import RunReport
from quakegrid.clients.drivers import DriverRequest

Event = dict[str, Any]
JOB = {"event": "job", "job_id": 5, "description": "Case 1", "calculation_mode": "classical"}
END = {
    "event": "end",
    "job_id": 5,
    "state": "complete",
    "datastore": "/data/calc_5.hdf5",
    "outputs": [["12", "Hazard Curves", "hcurves"]],
}


class FakeLink:
    """Stands in for the connection to the agent: a driver that tells these events at once."""

    told: tuple[Event, ...] = ()

    def __init__(self, _settings: object, request: DriverRequest) -> None:
        assert (request.mode, request.is_detachable) == ("run", True)
        assert request.argv[:2] == ["engine", "--run"]
        self._fd = os.eventfd(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)

    def fileno(self) -> int:
        """Always readable."""
        return self._fd

    def read(self) -> list[Event]:
        """All events."""
        return [dict(event) for event in self.told]

    def signal(self, number: int) -> None:
        """Nobody presses Ctrl-C here."""
        raise AssertionError(number)


@pytest.fixture
def job_ini(tmp_path: Path) -> str:
    """A job file that exists."""
    path = tmp_path / "job.ini"
    path.write_text("[general]\n")
    return str(path)


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Run the command line with a driver that tells these events and ends with this code."""

    def go(args: Sequence[str], events: Sequence[Event] = (), code: int = 0) -> int:
        class Link(FakeLink):
            told = (*events, {"event": "exit", "code": code})

        monkeypatch.setattr(runs, "DriverLink", Link)
        asked = SimpleNamespace(credential=None, proof="a key")
        monkeypatch.setattr(options, "cluster_settings", lambda: asked)
        monkeypatch.setattr(sys, "argv", ["quakegrid", "run", *args])
        return command_line.run_command_line()

    return go


def test_arguments_become_the_engines(job_ini: str) -> None:
    """Every option of ours has its place in upstream's command."""
    argv = run.engine_argv(run.RunPlan([job_ini], hc="-1", exports="csv", params=["a=1", "b=x=y"]))

    assert argv == ["engine", "--run", job_ini, "--param", "a=1,b=x=y", "--hc", "-1", "--exports", "csv"]


def test_weight_goes_to_the_driver(job_ini: str) -> None:
    """It asks the broker for so many times the cores of others."""
    assert run.engine_argv(run.RunPlan([job_ini], weight=2.5))[-2:] == ["--weight", "2.5"]


def test_width_of_workers_goes_to_the_driver(job_ini: str) -> None:
    """As the engine's option that it is not."""
    assert run.engine_argv(run.RunPlan([job_ini], cores_per_worker=4))[-2:] == ["--cores-per-worker", "4"]


@pytest.mark.parametrize("weight", ["0", "-1", "1e3", "much"])
def test_wrong_weight_is_refused(
    invoke: Callable[..., int], job_ini: str, weight: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is allowed."""
    assert invoke([job_ini, "--weight", weight]) == 2
    assert "--weight" in capsys.readouterr().err


def test_export_dir_is_absolute_and_implies_csv(job_ini: str) -> None:
    """The driver works in another process: a relative folder would be ambiguous."""
    argv = run.engine_argv(run.RunPlan([job_ini], export_dir=Path("out")))

    assert argv[3:] == ["--export-dir", str(Path.cwd() / "out"), "--exports", "csv"]


@pytest.mark.parametrize(("param", "said"), [("a", "KEY=VALUE"), ("=1", "KEY=VALUE"), ("a=1,2", "comma")])
def test_wrong_parameter_is_refused(job_ini: str, param: str, said: str) -> None:
    """Parameters that the engine would misread are refused before it starts."""
    with pytest.raises(errors.UsageError, match=said):
        run.engine_argv(run.RunPlan([job_ini], params=[param]))


def test_missing_job_file_is_named(
    invoke: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that is not there ends with 2 and one line that names it."""
    missing = str(tmp_path / "no.ini")

    assert invoke([missing]) == 2
    assert capsys.readouterr().err == f"quakegrid: {missing} does not exist\n"


def test_complete_run_prints_outputs(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The result goes to stdout: datastore and outputs."""
    code = invoke([job_ini], [JOB, END])

    out = capsys.readouterr().out
    assert code == 0
    assert "/data/calc_5.hdf5" in out
    assert "Hazard Curves" in out


@pytest.mark.parametrize("proof", ["a key", ""])
def test_next_commands_are_for_people_whom_the_cluster_knows(
    invoke: Callable[..., int],
    job_ini: str,
    proof: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A member of the group has no key: services would not answer those commands."""
    monkeypatch.setattr(options, "machine_settings", lambda: SimpleNamespace(credential=None, proof=proof))

    assert invoke([job_ini], [JOB, END]) == 0

    assert ("next: quakegrid jobs show 5" in capsys.readouterr().err) is bool(proof)


def test_json_result_is_the_only_thing_on_stdout(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts get one document."""
    bar = {"event": "progress", "job_id": 5, "operation": "classical", "done_count": 4, "total_count": 4}

    invoke([job_ini, "--output", "json"], [JOB, bar, END])

    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert found["jobs"][0]["outputs"] == [{"id": 12, "name": "Hazard Curves", "ds_key": "hcurves"}]
    assert found["exit_code"] == 0
    assert "classical: 4 of 4 tasks done" in captured.err


def test_failed_job_is_told_in_one_line_with_a_hint(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error's kind and message, no traceback, and where to read on."""
    traceback = 'Traceback (most recent call last):\n  File "a.py", line 3, in b\nValueError'
    log = {"event": "log", "job_id": 5, "level": "CRITICAL", "message": traceback}
    again = {**log, "level": "ERROR", "message": traceback.partition("\n")[2]}
    error = {"event": "error", "kind": "ValueError", "message": "bad\nvalue", "job_id": 5}

    code = invoke([job_ini], [JOB, log, again, error, {**END, "state": "failed", "outputs": []}], 1)

    err = capsys.readouterr().err
    assert code == 1
    assert "job 5 failed: ValueError: bad value\n" in err
    assert "quakegrid jobs logs 5" in err
    assert "a.py" not in err
    assert "Traceback" not in err


def test_error_before_a_job_exists_is_told(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken job file makes no job, but says why."""
    error = {"event": "error", "kind": "InvalidFile", "message": "no section", "job_id": None}

    code = invoke([job_ini], [error], 1)

    assert code == 1
    assert capsys.readouterr().err == "quakegrid: InvalidFile: no section\n"


def test_interrupt_aborts_and_says_so(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C is passed to the driver; we tell of it twice and end with 4."""
    code = invoke([job_ini], [JOB, {"event": "aborting"}, {**END, "state": "aborted"}], 130)

    err = capsys.readouterr().err
    assert code == 4
    assert "aborting job 5 ..." in err
    assert "job 5 aborted" in err


def test_aborted_job_has_its_reason(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who or what has aborted it."""
    code = invoke([job_ini], [JOB, {**END, "state": "aborted", "reason": "aborted by ann", "outputs": []}], 4)

    assert code == 4
    assert "job 5 aborted: aborted by ann\n" in capsys.readouterr().err


def test_complete_job_whose_export_failed_ends_with_one(
    invoke: Callable[..., int], job_ini: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job is complete; what could not be exported is told, with the command that tries again."""
    failure = "hcurves as csv: No space left on device"

    code = invoke([job_ini], [JOB, END, {"event": "not_exported", "failures": [failure]}], 1)

    captured = capsys.readouterr()
    assert code == 1
    assert "job 5 complete" in captured.out
    assert f"job 5: 1 output could not be exported\n  {failure}\n" in captured.err
    assert "quakegrid jobs export 5 DIR" in captured.err
    assert "the driver ended" not in captured.err


def test_unreadable_job_file_names_the_user(job_ini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver would fail without a word."""
    monkeypatch.setattr(run.os, "access", lambda _path, _mode: False)

    with pytest.raises(errors.UsageError, match=r"user \w+ may not read .*job.ini"):
        run.engine_argv(run.RunPlan([job_ini]))


@pytest.mark.parametrize("number", ["9223372036854775808", "-9223372036854775808", "0"])
def test_parent_that_no_job_can_be_is_a_usage_error(
    invoke: Callable[..., int], job_ini: str, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--hc` takes what other commands take."""
    assert invoke([job_ini, "--hc", number]) == 2
    assert f"no job has the id {number}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("driver_code", "state", "exit_code"), [(137, "failed", 1), (143, "aborted", 4), (1, "failed", 1)]
)
def test_driver_that_vanishes_ends_its_jobs(driver_code: int, state: str, exit_code: int) -> None:
    """A job without an end of its own takes the driver's."""
    report = RunReport()
    report.take(JOB)

    report.close(driver_code, 1.0)

    assert report.jobs[5].state == state
    assert report.exit_code == exit_code


def test_driver_that_fails_without_a_word_is_an_error() -> None:
    """A nonzero end is never taken for success."""
    report = RunReport()

    report.close(137, 1.0)

    assert report.error == "the driver ended with SIGKILL"
    assert report.exit_code == 1


@pytest.mark.parametrize(
    ("level", "is_verbose", "is_shown"),
    [("INFO", False, False), ("WARNING", False, True), ("INFO", True, True), ("CRITICAL", False, True)],
)
def test_log_lines_are_shown_from_their_level(level: str, is_verbose: bool, is_shown: bool) -> None:
    """Warnings always, information on request."""
    event = {"event": "log", "level": level, "message": "something"}

    line = progress.event_line(event, verbose=is_verbose)

    assert line == (f"{level} something" if is_shown else None)


def test_pipe_gets_each_quarter_once(capsys: pytest.CaptureFixture[str]) -> None:
    """A long operation writes four lines, not one a task."""
    display = progress.LineDisplay(verbose=False)

    for done in range(101):
        display.show(
            {"event": "progress", "job_id": 1, "operation": "op", "done_count": done, "total_count": 100}
        )

    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"op: {count} of 100 tasks done" for count in (25, 50, 75, 100)]


def test_tasks_from_a_journal_are_counted_in_words_and_bars(capsys: pytest.CaptureFixture[str]) -> None:
    """A calculation that is resumed shows what is not computed again."""
    event = {"event": "progress", "job_id": 1, "operation": "op", "done_count": 3, "total_count": 4}
    lines, bars = progress.LineDisplay(verbose=False), progress.BarDisplay(verbose=False)

    for replayed_count in (0, 2):
        for display in (lines, bars):
            display.show(event | {"replayed_count": replayed_count, "job_id": replayed_count})
    bars.close()

    told = capsys.readouterr().err
    assert "op: 3 of 4 tasks done\n" in told
    assert "op: 3 of 4 tasks done, 2 of them from the journal\n" in told
    assert re.search(r"3/4 +tasks +\(2 from the journal\)", told)
