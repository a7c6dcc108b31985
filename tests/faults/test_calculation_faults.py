"""What a calculation does when something in it dies, fails or is stopped."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import zipfile
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.states import JobState
from quakegrid.settings import config
from tests.support.clusters import Cluster, running_cluster
from tests.support.nodes import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]
# The line that says that tasks are with the workers.
WORKING = "Sent 3 event_based tasks"
MODULE = """
from openquake.baselib import parallel
from quakegrid import testing

def main(verbose=False):
    print(list(parallel.Starmap(testing.{task}, [({arg!r},), ({arg!r},)])))
"""


def run_starmap(cluster: Cluster, folder: Path, task: str, arg: object) -> tuple[int, str]:
    """Run a Starmap of two tasks in a driver, as a user's own module would; exit code and all output."""
    (folder / "my_starmap.py").write_text(MODULE.format(task=task, arg=arg), encoding="utf-8")
    mine = dataclasses.replace(cluster, environ=cluster.environ | {"PYTHONPATH": str(folder)})
    done = mine.call("oq", "shell", "my_starmap")
    return done.returncode, done.stdout + done.stderr


def test_killed_worker_costs_an_attempt_not_the_job(cluster: Cluster, medium: Path) -> None:
    """Its task runs again on a new worker, the calculation completes, and its log tells of the death."""
    running = cluster.start("run", "-v", medium)
    running.wait_for(WORKING)
    (session,) = cluster.json("status")["sessions"]

    victims = [pid for pid in cluster.children() if pid != session["pid"]]
    os.kill(victims[0], signal.SIGKILL)
    code, output = running.finish()

    assert code == 0, output
    assert cluster.job()["state"] == "complete"
    doing = r"(ran task \d+ \(attempt 1, event_based|held no task)"
    assert re.search(rf"worker \S+ on node \S+ was killed by SIGKILL .*, while it {doing}", cluster.log())
    cluster.wait_until_quiet()


def test_killed_lane_costs_the_job_nothing(cluster: Cluster, medium: Path) -> None:
    """Another lane learns from driver and workers what there was; what they ran is not run again."""
    running = cluster.start("run", "-v", medium)
    running.wait_for(WORKING)
    status = cluster.json("status")
    (session,) = status["sessions"]
    (victim,) = [lane for lane in status["lanes"] if lane["port"] == session["lane_port"]]

    os.kill(victim["pid"], signal.SIGKILL)
    code, output = running.finish()

    assert code == 0, output
    assert cluster.job()["state"] == "complete"
    cluster.wait_until_quiet()


def test_task_that_kills_its_workers_fails_with_reasons(cluster: Cluster, tmp_path: Path) -> None:
    """After three workers the task is given up, and the error names it, the node and the signal."""
    code, output = run_starmap(cluster, tmp_path, "end_worker", signal.SIGSEGV.value)

    assert code == 1
    assert "(end_worker) ended its worker 3 times" in output
    assert output.count("killed by SIGSEGV") >= 3
    cluster.wait_until_quiet()


def test_task_that_raises_is_not_tried_again(cluster: Cluster, tmp_path: Path) -> None:
    """The exception reaches the driver with its own class and the task's traceback."""
    code, output = run_starmap(cluster, tmp_path, "fail_task", "no such fault")

    assert code == 1
    assert "ValueError: no such fault" in output
    assert "in fail_task" in output


def test_job_that_fails_in_a_task_says_why(cluster: Cluster, slow: Path) -> None:
    """One line on the terminal, the traceback in the log, state `failed`, exit code 1."""
    source = slow.parent / "source_model1.xml"
    text = source.read_text(encoding="utf-8")
    source.write_text(text.replace('strike="0.0"', 'strike="999"'), encoding="utf-8")

    done = cluster.call("run", slow)

    assert done.returncode == 1
    assert "failed: " in done.stderr
    assert "strike" in done.stderr
    assert cluster.job()["state"] == "failed"
    assert 'File "' in cluster.log()


def test_killed_driver_fails_its_job_and_ends_its_workers(cluster: Cluster, slow: Path) -> None:
    """Nothing stays `executing`, and the log says why."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(WORKING)
    (session,) = cluster.json("status")["sessions"]
    files = cluster.temporary_files()

    os.kill(session["pid"], signal.SIGKILL)
    code, output = running.finish()

    assert code == 1, output
    assert cluster.job()["state"] == "failed"
    assert "ended before its calculation did" in cluster.log()
    cluster.wait_until_quiet()
    assert files
    wait_until(lambda: not cluster.temporary_files(), why=lambda: f"left: {cluster.temporary_files()}")


def test_interrupt_aborts_the_job_and_says_so(cluster: Cluster, slow: Path) -> None:
    """Ctrl-C: exit code 4, state `aborted`, no process left."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(WORKING)

    running.process.send_signal(signal.SIGINT)
    code, output = running.finish()

    job = cluster.job()
    assert code == 4, output
    assert f"aborting job {job['id']}" in output
    assert f"job {job['id']} aborted: interrupted (Ctrl-C, or SIGINT)" in output
    assert (job["state"], job["state_reason"]) == ("aborted", "interrupted (Ctrl-C, or SIGINT)")
    assert "MasterKilled" not in cluster.log()
    assert cluster.log().splitlines()[-1].endswith("WARNING  interrupted (Ctrl-C, or SIGINT)")
    cluster.wait_until_quiet()


def test_command_line_that_is_killed_aborts_its_job_with_the_reason(cluster: Cluster, slow: Path) -> None:
    """Command lines of the engine take their jobs along: nobody is told, so the record must say it."""
    running = cluster.start("oq", "engine", "--run", slow)
    running.wait_for(WORKING)

    running.process.kill()
    running.finish()

    assert "the command that waited for it is gone" in cluster.ended_job()["state_reason"]
    assert "It was aborted: the command that waited" in cluster.call("explain", "-1").stdout
    cluster.wait_until_quiet()


def test_words_of_the_engine_are_a_failure_with_these_words(cluster: Cluster, tmp_path: Path) -> None:
    """The engine ends this calculation by `sys.exit`: words on the terminal, in the record and in the log."""
    job_ini = testing.copy_engine_case("disagg/case_3", tmp_path / "case") / "job.ini"
    words = "Cannot do any disaggregation: zero hazard"

    done = cluster.call("run", job_ini)

    job = cluster.job()
    assert done.returncode == 1, done.stderr
    assert f"job {job['id']} failed: {words}\n" in done.stderr
    assert (job["state"], job["state_reason"]) == ("failed", words)
    assert cluster.log().splitlines()[-1].endswith(f"ERROR    {words}")
    assert cluster.call("explain", "-1").stdout.startswith(f"It failed: {words}.")


def test_export_that_fails_in_part_leaves_whole_files_and_ends_with_one(
    cluster: Cluster, quick: Path, tmp_path: Path
) -> None:
    """What can be written is; the rest is named, and nothing half written is left."""
    assert cluster.call("run", quick).returncode == 0
    job_id, out = cluster.job()["id"], tmp_path / "out"
    place = out / f"hazard_curve-mean-PGA_{job_id}.csv"
    place.mkdir(parents=True)  # no file can be put there

    done = cluster.call("jobs", "export", job_id, out, "--exports", "csv,rst")

    (written,) = (path for path in out.iterdir() if path != place)
    assert done.returncode == 1
    assert done.stdout == f"exported: {written}\n"
    assert written.stat().st_size > 0
    assert "not exported: hcurves as csv: Is a directory" in done.stderr
    assert f"to try again: quakegrid jobs export {job_id} {out}" in done.stderr


def test_export_without_a_result_ends_with_an_error(cluster: Cluster, quick: Path, tmp_path: Path) -> None:
    """A format that nothing has is named before anything runs."""
    assert cluster.call("run", quick).returncode == 0

    unknown = cluster.call("jobs", "export", "-1", tmp_path / "out", "--exports", "pdf")
    useless = cluster.call("jobs", "export", "-1", tmp_path / "out", "--exports", "zip")
    run = cluster.call("run", quick, "--exports", "pdf")

    assert [done.returncode for done in (unknown, useless, run)] == [2, 2, 2]
    assert "no export format pdf" in unknown.stderr
    assert "has no output that can be exported as zip" in useless.stderr
    assert "no export format pdf" in run.stderr


@pytest.mark.parametrize("command", [("webui", "migrate"), ("dbserver", "start")])
def test_service_of_the_engine_is_refused(cluster: Cluster, command: tuple[str, ...]) -> None:
    """It would work on files that are the dbserver's."""
    done = cluster.call("oq", *command)

    assert done.returncode == 2
    assert "quakegrid" in done.stderr


def test_abort_from_elsewhere_ends_the_job_and_can_be_repeated(cluster: Cluster, slow: Path) -> None:
    """`quakegrid abort`: the one who waits is told, and a second abort changes nothing."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(WORKING)

    first = cluster.call("abort", "-1")
    code, output = running.finish()
    second = cluster.call("abort", "-1")

    assert (first.returncode, code, second.returncode) == (0, 4, 0), output
    assert cluster.job()["state"] == "aborted"
    assert cluster.job()["state_reason"].startswith("aborted by ")
    assert f"aborted: {cluster.job()['state_reason']}" in output
    cluster.wait_until_quiet()


def test_queued_job_waits_and_its_abort_disturbs_nobody(cluster: Cluster, slow: Path, quick: Path) -> None:
    """`serialize_jobs = 1`: the second waits as `submitted`; aborted, the first goes on to its end."""
    first = cluster.start("run", "-v", slow)
    first.wait_for(WORKING)
    second = cluster.start("run", quick)
    second.wait_for("waiting for job")
    waiting = cluster.job()["state"]

    cluster.call("abort", "-1")
    second_code, second_output = second.finish()
    first_code, first_output = first.finish()

    assert waiting == "submitted"
    assert second_code == 4, second_output
    assert first_code == 0, first_output
    assert cluster.job()["state"] == "aborted"
    cluster.wait_until_quiet()


def test_upstream_abort_reaches_a_job_of_the_cluster(cluster: Cluster, slow: Path) -> None:
    """`oq abort` has upstream's words and does what they say."""
    running = cluster.start("run", "-v", slow)
    running.wait_for(WORKING)

    done = cluster.call("oq", "abort", cluster.job()["id"])
    code, output = running.finish()

    assert f"Job {cluster.job()['id']} aborted" in done.stdout
    assert code == 4, output
    assert cluster.job()["state"] == "aborted"


def test_upstream_dump_and_reset_go_through_the_dbserver(tmp_path: Path) -> None:
    """A dump has the job; a reset deletes the user's jobs and not the file under the dbserver."""
    home = tmp_path / "home"
    home.mkdir()
    job_ini = testing.copy_engine_case("classical/case_01", tmp_path / "case") / "job.ini"
    with running_cluster(tmp_path / "state", home) as cluster:
        assert cluster.call("run", job_ini).returncode == 0
        datastore = Path(f"{cluster.job()['ds_calc_dir']}.hdf5")
        was_there = datastore.exists()

        dump = cluster.call("oq", "dump", tmp_path / "dump.zip")
        done = cluster.call("oq", "reset", "-y")

        assert dump.returncode == 0, dump.stderr
        assert {datastore.name, "db.sqlite3"} <= set(zipfile.ZipFile(tmp_path / "dump.zip").namelist())
        assert done.returncode == 0, done.stderr
        assert f"Removed {datastore}" in done.stdout
        assert was_there
        assert not datastore.exists()
        assert cluster.json("jobs", "list") == []
        assert cluster.call("run", job_ini).returncode == 0
    assert not (home / "oqdata").exists(), "the engine opened a database of its own"


def test_negative_numbers_of_the_engine_are_one_s_own(cluster: Cluster, quick: Path) -> None:
    """Though another person has newer jobs, and upstream takes theirs."""
    ran = cluster.call("run", quick)
    own = cluster.job()["id"]
    with DbClient(config.load_settings(cluster.state_dir, cluster.environ)) as database:
        ended, waiting = (
            database.jobs.create_job(
                data_dir="/nonexistent", calculation_mode="classical", description="hers", user_name="zoe"
            ).id
            for _ in range(2)
        )
        database.jobs.transition(ended, JobState.COMPLETE)

        shown = cluster.call("oq", "show", "contents", "-1")
        listed = cluster.call("oq", "engine", "--list-outputs", "-1")
        started = cluster.call("run", quick, "--hc", "-1")
        again = cluster.job()
        not_aborted = cluster.call("oq", "abort", waiting)
        not_deleted = cluster.call("oq", "engine", "--delete-calculation", ended, "--yes")
        deleted = cluster.call("oq", "engine", "--delete-calculation", "-1", "--yes")
        hers = [database.jobs.get_job(job_id).state for job_id in (ended, waiting)]

    assert ran.returncode == 0, ran.stderr
    assert "sitecol" in shown.stdout, shown.stderr
    assert "hcurves" in listed.stdout.lower() or "Hazard Curves" in listed.stdout, listed.stderr
    assert started.returncode == 0, started.stderr
    assert again["hazard_calculation_id"] == own
    assert f"Job {waiting} belongs to zoe. Abort it?" in not_aborted.stdout
    assert "belongs to zoe" in not_deleted.stdout + not_deleted.stderr
    assert f"Removed {again['id']}" in deleted.stdout, deleted.stderr
    assert hers == [JobState.COMPLETE, JobState.CREATED]


def test_command_line_that_is_killed_takes_its_job_along(cluster: Cluster, slow: Path) -> None:
    """A terminal that is gone does not leave a calculation of `oq` behind."""
    running = cluster.start("oq", "engine", "--run", slow)
    running.wait_for(WORKING)

    running.process.kill()
    running.finish()
    cluster.wait_until_quiet()

    assert cluster.job()["state"] in {"aborted", "failed"}


def test_down_asks_before_it_ends_a_job(cluster: Cluster, medium: Path) -> None:
    """Without a terminal and without --force it refuses, and the job goes on."""
    running = cluster.start("run", "-v", medium)
    running.wait_for(WORKING)

    down = cluster.call("down")
    code, output = running.finish()

    assert down.returncode == 1
    assert "--force" in down.stderr
    assert code == 0, output
