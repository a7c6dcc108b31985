"""The commands `jobs compare`, `jobs prune` and `plot`, against a database and results in memory."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from quakegrid import errors
from quakegrid.cli import __main__ as command_line
from quakegrid.cli import options
from quakegrid.cli.checks import answers
from quakegrid.cli.results import compare, plot, prune, sources
from quakegrid.cli.views import plots
from quakegrid.cli.views.run_report import RunReport
from quakegrid.clients.web import results, web_client
from quakegrid.jobs.states import JobState
from quakegrid.jobs.values import Job
from quakegrid.services.web import app
from tests.unit.cli.test_cli_jobs import START, make_job

CURVE = "#,,remark {}\nlon,poe\n0.0,{}\n"
AXIS = {"label": "PGA", "unit": "g", "is_log": True}
PICTURES: dict[str, dict[str, Any]] = {
    "hazard-curves": {
        "kind": "hazard-curves",
        "shape": "lines",
        "title": "Hazard curves, PGA",
        "note": "",
        "x": AXIS,
        "y": AXIS,
        "series": [{"name": "mean", "x": [0.1, 0.2], "y": [0.5, 0.1]}, {"name": "q", "x": [], "y": []}],
        "choices": [
            {"name": "imt", "label": "Intensity", "options": [["0", "PGA"], ["1", "SA(0.1)"]], "value": "0"}
        ],
    },
    "hazard-map": {
        "kind": "hazard-map",
        "shape": "points",
        "title": "Map",
        "note": "every 2th of 6 sites",
        "value": AXIS,
        "lon": [0.0, 1.0, 2.0],
        "lat": [45.0, 46.0, 47.0],
        "values": [0.1, None, 0.3],
        "choices": [],
    },
    "damages": {
        "kind": "damages",
        "shape": "bars",
        "title": "Damage",
        "note": "",
        "label": "state",
        "value": {"label": "buildings", "unit": "", "is_log": False},
        "names": ["none", "some"],
        "heights": [5.0, None],
        "choices": [],
    },
    "disaggregation": {
        "kind": "disaggregation",
        "shape": "cells",
        "title": "Disaggregation",
        "note": "",
        "x": AXIS,
        "y": AXIS,
        "value": AXIS,
        "columns": ["5 to 6", "6 to 7", "7 to 8"],
        "rows": ["0 to 10", "10 to 20"],
        "values": [[0.1, 0.2], [0.3, None], [0.5, 0.6]],
        "choices": [],
    },
}


class FakeSource:
    """Results of two calculations, 1 and 2."""

    def __init__(self) -> None:
        self.poes = {1: "0.5", 2: "0.25"}
        self.asked: list[Mapping[str, str]] = []

    def parameters(self, job_id: int) -> dict[str, str]:
        """They differ in one."""
        return {"truncation_level": str(job_id), "export_dir": f"/{job_id}"}

    def inputs(self, job_id: int) -> dict[str, str]:
        """One of them differs."""
        return {"sites.csv": f"{job_id} bytes", "sources.xml": "7 bytes"}

    def pictures(self, _job_id: int) -> list[dict[str, str]]:
        """All shapes."""
        return [{"kind": kind, "label": kind} for kind in PICTURES]

    def picture(self, _job_id: int, kind: str, chosen: Mapping[str, str]) -> dict[str, Any]:
        """Always the same."""
        self.asked.append(chosen)
        return PICTURES[kind]

    def export_csv(self, job_id: int, folder: Path) -> list[Path]:
        """One file."""
        path = folder / f"curve_{job_id}.csv"
        path.write_text(CURVE.format(job_id, self.poes[job_id]), encoding="utf-8")
        return [path]


class FakeJobs:
    """Jobs in memory."""

    def __init__(self, jobs: list[Job]) -> None:
        self.found = {job.id: job for job in jobs}
        self.user_name = "ann"
        self.jobs = self
        self.refused: set[int] = set()

    def close(self) -> None:
        """Nothing is open."""

    def get_job(self, job_id: int) -> Job:
        """By id."""
        return self.found[job_id]

    def list_jobs(self, _limit: int, wanted: Any) -> list[Job]:
        """Of a person."""
        return [job for job in self.found.values() if job.user_name == wanted.user_name]

    def delete_job_and_files(self, job_id: int, user_name: str) -> None:
        """Unless it is refused."""
        assert user_name == "ann"
        if job_id in self.refused:
            raise errors.NotAllowedError("not yours")
        del self.found[job_id]


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> FakeSource:
    """What both commands get results from."""
    fake = FakeSource()

    @contextlib.contextmanager
    def opened(_settings: object) -> Iterator[FakeSource]:
        yield fake

    monkeypatch.setattr(sources, "open_source", opened)
    return fake


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> FakeJobs:
    """Two complete jobs, one that failed, one of somebody else."""
    ended = dataclasses.replace(make_job(1), stop_time=START + datetime.timedelta(seconds=5), size_mb=-1.0)
    jobs = [ended, make_job(2), make_job(3, JobState.FAILED), make_job(4, user_name="bob")]
    fake = FakeJobs(jobs)
    monkeypatch.setattr(options, "cluster_settings", object)
    for module in (compare, plot, prune):
        monkeypatch.setattr(module, "DbClient", lambda _settings: fake)
    monkeypatch.setattr(prune, "TagsClient", lambda _: SimpleNamespace(list_tags=list))
    return fake


def call(*args: str) -> Result:
    """Run the command line; errors of ours come through."""
    result = CliRunner().invoke(command_line.cli, args)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.mark.usefixtures("source", "database")
def test_compare_tells_parameters_inputs_times_and_results() -> None:
    """The first value that differs, with its place; exit code 1."""
    done = call("jobs", "compare", "1", "2")

    assert done.exit_code == errors.EXIT_FAILED
    assert "truncation_level: 1 and 2" in done.stdout
    assert "input sites.csv: 1 bytes and 2 bytes" in done.stdout
    assert "sources.xml" not in done.stdout
    assert "row 1, poe: 0.5 and 0.25" in done.stdout
    assert "1 of 1 results differ." in done.stdout
    assert "5s" in done.stdout
    assert call("jobs", "compare", "1", "2", "--output", "quiet").stdout == "curve\n"
    found = json.loads(call("jobs", "compare", "1", "2", "--json").stdout)
    assert (found["is_same"], found["results"][0]["largest"]) == (False, 0.5)
    assert found["inputs"] == [{"name": "sites.csv", "left": "1 bytes", "right": "2 bytes"}]
    assert "The inputs are the same." in call("jobs", "compare", "1", "1").stdout


@pytest.mark.usefixtures("database")
def test_compare_takes_a_tolerance(source: FakeSource) -> None:
    """What is within it is the same, and the exit code is 0."""
    done = call("jobs", "compare", "1", "2", "--tolerance", "0.5")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "All 1 results are the same.")

    source.poes[2] = "0.5"
    assert call("jobs", "compare", "1", "2").exit_code == 0
    assert "results" not in call("jobs", "compare", "1", "2", "--no-results").stdout


@pytest.mark.usefixtures("source", "database")
def test_compare_refuses_what_has_no_results() -> None:
    """A calculation that failed."""
    with pytest.raises(errors.StateError, match="job 3 is failed and has no results"):
        call("jobs", "compare", "1", "3")


@pytest.mark.usefixtures("source", "database")
def test_compare_leaves_out_what_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so: it is not known whether it is the same."""
    monkeypatch.setattr(compare, "MOST_BYTES", 1)

    done = call("jobs", "compare", "1", "1")

    assert done.exit_code == errors.EXIT_FAILED
    assert "curve is too large" in done.stdout


@pytest.mark.usefixtures("database")
def test_files_that_compare_holds_have_a_bound_together(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them is small enough."""

    def export_csv(job_id: int, folder: Path) -> list[Path]:
        paths = [folder / f"{name}_{job_id}.csv" for name in ("first", "second")]
        for path in paths:
            path.write_text(CURVE.format(job_id, "0.5"), encoding="utf-8")
        return paths

    monkeypatch.setattr(source, "export_csv", export_csv)
    monkeypatch.setattr(compare, "MOST_BYTES", 2 * len(CURVE) - 10)

    done = call("jobs", "compare", "1", "1")

    assert "second is too large" in done.stdout
    assert "first is too large" not in done.stdout


def test_folder_of_root_can_be_found_by_its_driver_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any account may write into it, but nobody can list the folder that it is in."""
    exported: list[Path] = []
    monkeypatch.setattr(sources.os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        sources, "_exported", lambda _settings, _job_id, folder: exported.append(folder) or []
    )

    sources.EngineSource(object()).export_csv(7, tmp_path)  # type: ignore[arg-type]

    (folder,) = exported
    assert folder.parent == tmp_path
    assert len(folder.name) == 32
    assert [each.stat().st_mode & 0o7777 for each in (tmp_path, folder)] == [0o711, 0o1777]


@pytest.mark.usefixtures("database")
def test_compare_says_nothing_of_results_that_it_did_not_compare(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that they are the same, nor that they are not."""
    done = call("jobs", "compare", "1", "2", "--no-results", "--json")
    assert (done.exit_code, json.loads(done.stdout)["is_same"]) == (0, None)

    monkeypatch.setattr(source, "export_csv", lambda *_args: [])
    done = call("jobs", "compare", "1", "2")
    assert done.exit_code == errors.EXIT_FAILED
    assert "The results could not be compared: neither job 1 nor job 2 has a result" in done.stdout
    assert "truncation_level: 1 and 2" in done.stdout


OLD = "the web service has no such path"


def refuse(*_args: object) -> NoReturn:
    """As an older web service does."""
    raise errors.NotFoundError(OLD)


@pytest.mark.usefixtures("database")
def test_compare_compares_what_it_can(source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what it could not compare, and why; of that it does not say that it is the same."""
    monkeypatch.setattr(source, "inputs", refuse)
    source.poes[2] = source.poes[1]

    done = call("jobs", "compare", "1", "2")

    assert done.exit_code == 0
    assert "truncation_level: 1 and 2" in done.stdout
    assert "All 1 results are the same." in done.stdout
    assert f"The inputs could not be compared: {OLD}" in done.stdout
    assert "The inputs are the same." not in done.stdout
    found = json.loads(call("jobs", "compare", "1", "2", "--json").stdout)
    assert (found["inputs"], found["not_compared"]) == (None, {"inputs": OLD})
    assert OLD in call("jobs", "compare", "1", "2", "--output", "quiet").stderr


@pytest.mark.usefixtures("database")
def test_compare_fails_where_it_can_compare_nothing(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the results are what it cannot compare: exit code 0 would say that they are the same."""
    monkeypatch.setattr(source, "export_csv", refuse)

    done = call("jobs", "compare", "1", "1")
    assert (done.exit_code, "The parameters are the same." in done.stdout) == (errors.EXIT_FAILED, True)

    monkeypatch.setattr(source, "parameters", refuse)
    monkeypatch.setattr(source, "inputs", refuse)
    with pytest.raises(errors.NotFoundError, match=OLD):
        call("jobs", "compare", "1", "2")


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("is_large", [False, True])
def test_compare_tells_each_reason_why_it_can_compare_nothing(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    """That of the parameters alone would look as if the results had none."""

    def forbid(*_args: object) -> NoReturn:
        raise errors.NotAllowedError("the inputs are of another person")

    monkeypatch.setattr(source, "parameters", refuse)
    monkeypatch.setattr(source, "inputs", forbid)
    monkeypatch.setattr(compare, "MOST_BYTES", 1)
    if not is_large:
        monkeypatch.setattr(source, "export_csv", refuse)

    with pytest.raises(errors.QuakeGridError) as raised:
        call("jobs", "compare", "1", "2")

    of_results = "too large to be compared here (curve)" if is_large else OLD
    assert str(raised.value) == (
        f"nothing could be compared; the parameters: {OLD}; the inputs: the inputs are of another person; "
        f"the results: {of_results}"
    )


@pytest.mark.usefixtures("database")
def test_compare_does_not_ask_on_where_nobody_answers(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part would wait for as long."""

    def wait(_job_id: int) -> NoReturn:
        raise errors.PeerUnreachableError("the web service does not answer")

    monkeypatch.setattr(source, "parameters", wait)

    with pytest.raises(errors.PeerUnreachableError):
        call("jobs", "compare", "1", "2")


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("part", ["parameters", "inputs", "export_csv"])
def test_compare_goes_on_with_no_other_part_when_it_is_stopped(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """Ctrl-C ends the driver of the part at hand, and the person means the command."""

    def stop(*_args: object) -> NoReturn:
        raise answers.StoppedError("stopped by SIGINT")

    monkeypatch.setattr(source, part, stop)

    with pytest.raises(answers.StoppedError):
        call("jobs", "compare", "1", "2")


def test_export_that_was_stopped_is_not_taken_for_all_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The files that it wrote before would be compared as if there were no others."""

    def write(_settings: object, report: RunReport, *_args: object) -> int:
        report.take({"event": "exported", "paths": [str(tmp_path / "curve.csv")]})
        return 128 + signal.SIGINT

    monkeypatch.setattr(sources.exports, "write", write)

    with pytest.raises(answers.StoppedError, match="the export of job 1 was stopped"):
        sources._exported(None, 1, tmp_path)  # type: ignore[arg-type]


class FakeWeb:
    """A web service that gives one answer, or refuses."""

    address = "https://master:8800"

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def get(self, _path: str, **_query: str) -> Any:
        """The answer."""
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_older_web_service_is_named_as_such() -> None:
    """By what a service says of a path that it does not have; other refusals are told as they are."""
    told = asyncio.run(app._not_found(None, None)).body  # type: ignore[arg-type]
    none_there = web_client.refusal(web_client.WebAnswer(404, bytes(told)))

    def source_of(answer: Any) -> sources.WebSource:
        return sources.WebSource(None, FakeWeb(answer))  # type: ignore[arg-type]

    with pytest.raises(errors.NotFoundError, match=r"has no /calculations/7/inputs.json; it is older than"):
        source_of(none_there).inputs(7)
    with pytest.raises(errors.NotFoundError, match=r"^there is no job 7$"):
        source_of(errors.NotFoundError("there is no job 7")).inputs(7)
    with pytest.raises(errors.PeerError, match="another form"):
        source_of(["sites.csv"]).inputs(7)


@pytest.mark.parametrize("listed", [[{"id": 1, "name": "curves"}], 5, [{"id": "x"}]])
def test_outputs_in_another_form_are_refused_in_words(listed: Any) -> None:
    """A web service of another version may have other fields."""
    with pytest.raises(errors.PeerError, match="another form"):
        results.outputs(FakeWeb(listed), 7)  # type: ignore[arg-type]


@pytest.mark.usefixtures("database")
def test_compare_prints_nothing_that_a_terminal_obeys(
    source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and values of parameters, and names of files, are those of other people."""
    values = {1: {"a\x1b[2J": "b\x1b[2J"}, 2: {}}
    monkeypatch.setattr(source, "parameters", lambda job_id: values[job_id])
    monkeypatch.setattr(compare, "MOST_BYTES", 1)
    monkeypatch.setattr(compare.tables, "result_name", lambda *_args: "c\x1b[2J")

    done = call("jobs", "compare", "1", "2")

    assert r"a\x1b[2J: b\x1b[2J and (not there)" in done.stdout
    assert r"c\x1b[2J is too large" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.usefixtures("source", "database")
@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_plot_draws_all_shapes(suffix: str, magic: bytes, tmp_path: Path) -> None:
    """A file for each picture, and nothing else."""
    pytest.importorskip("matplotlib")

    done = call("plot", "1", "--dir", str(tmp_path), "--format", suffix, "--output", "quiet")

    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == sorted(f"job-1-{kind}.{suffix}" for kind in PICTURES)
    assert sorted(done.stdout.split()) == sorted(map(str, files))
    assert all(path.read_bytes().startswith(magic) for path in files)


@pytest.mark.usefixtures("database")
def test_plot_takes_choices_by_label_or_number(source: FakeSource, tmp_path: Path) -> None:
    """And refuses those that there are not."""
    args = ("plot", "1", "--kind", "hazard-curves", "--dir", str(tmp_path), "--json")

    assert json.loads(call(*args, "--choose", "imt=SA(0.1)").stdout) == [PICTURES["hazard-curves"]]
    call(*args, "--choose", "imt=1")

    assert source.asked == [{}, {"imt": "1"}, {}, {"imt": "1"}]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(errors.UsageError, match=r"there are PGA, SA\(0\.1\)"):
        call(*args, "--choose", "imt=PGV")
    with pytest.raises(errors.UsageError, match="give NAME=VALUE"):
        call(*args, "--choose", "imt")


@pytest.mark.usefixtures("source", "database")
def test_plot_lists_kinds_and_names_the_near_one() -> None:
    """A calculation that failed has none."""
    assert call("plot", "1", "--list", "--output", "quiet").stdout.split() == list(PICTURES)
    assert json.loads(call("plot", "1", "--list", "--json").stdout)[0]["choices"][0]["name"] == "imt"
    with pytest.raises(errors.UsageError, match=r"is hazard-curves meant\?"):
        call("plot", "1", "--kind", "hazard-curve")
    with pytest.raises(errors.StateError, match="has no results to draw"):
        call("plot", "3")


def test_figure_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full leaves no part of it."""
    figures = pytest.importorskip("matplotlib.figure")

    def save(_figure: object, path: Path, **_options: object) -> None:
        path.write_bytes(b"part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figures.Figure, "savefig", save)

    with pytest.raises(OSError, match="No space left"):
        plots.draw(PICTURES["hazard-curves"], tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_prune_removes_own_old_jobs(database: FakeJobs) -> None:
    """After a look by --dry-run; those of others stay."""
    looked = call("jobs", "prune", "--older", "1d", "--dry-run")
    assert "3 jobs would be removed" in looked.stdout
    assert len(database.found) == 4

    done = call("jobs", "prune", "--older", "1d", "--yes", "--json")

    assert sorted(json.loads(done.stdout)["removed"]) == [1, 2, 3]
    assert list(database.found) == [4]
    again = call("jobs", "prune", "--older", "1d")
    assert "no calculation of ann to remove" in again.stderr


def test_prune_asks_first(database: FakeJobs) -> None:
    """Without a terminal nobody can be asked."""
    with pytest.raises(errors.UsageError, match="give --yes"):
        call("jobs", "prune", "--older", "1d")
    assert len(database.found) == 4


def test_prune_goes_on_after_a_refusal(database: FakeJobs) -> None:
    """And ends with exit code 1."""
    database.refused = {2}

    done = call("jobs", "prune", "--older", "1d", "--yes", "--output", "quiet")

    assert done.exit_code == errors.EXIT_FAILED
    assert sorted(done.stdout.split()) == ["1", "3"]
    assert "job 2: not yours" in done.stderr


@pytest.mark.usefixtures("database")
def test_prune_wants_an_age() -> None:
    """A bare number is none."""
    assert call("jobs", "prune", "--older", "90").exit_code == errors.EXIT_USAGE
