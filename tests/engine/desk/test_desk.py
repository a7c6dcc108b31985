"""Calculations from a machine without engine and cluster: the same results, exit codes and words."""

from __future__ import annotations

import getpass
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quakegrid import testing
from quakegrid.settings import config
from tests.engine.desk.desks import Desk, Link, linked_desk
from tests.engine.web_servers import CASE
from tests.support.clusters import Cluster

REPOSITORY = Path(__file__).parents[3]
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def linked(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Link]]:
    """A desk and its link."""
    port = config.load_settings(cluster.state_dir, cluster.environ).web_port
    with linked_desk(cluster, tmp_path_factory.mktemp("desk"), getpass.getuser(), port) as found:
        yield found


@pytest.fixture
def desk(linked: tuple[Desk, Link]) -> Desk:
    """A desk whose link is whole."""
    linked[1].cut_after_bytes = None
    return linked[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small calculation, whose sources lie outside of its folder."""
    folder = testing.copy_engine_case(CASE, tmp_path / "models" / "case")
    shared = tmp_path / "shared"
    shared.mkdir()
    (folder / "source_model.xml").rename(shared / "source_model.xml")
    tree = folder / "source_model_logic_tree.xml"
    tree.write_text(tree.read_text().replace("source_model.xml", "../../shared/source_model.xml"))
    return folder


def numbers(folder: Path) -> dict[str, list[str]]:
    """The exported files without their first lines, which tell the moment; names without the job's number."""
    return {
        re.sub(r"_\d+\.csv$", ".csv", path.name): path.read_text().splitlines()[1:]
        for path in folder.iterdir()
    }


def test_results_are_those_of_the_master(
    linked: tuple[Desk, Link], desk: Desk, cluster: Cluster, model: Path, tmp_path: Path
) -> None:
    """And an edited model sends only what changed; then the words and results of the other commands."""
    link = linked[1]
    options = ("--exports", "csv", "--export-dir")
    done = desk.call(model, "run", "job.ini", *options, tmp_path / "here")
    (outcome,) = cluster.json("run", model / "job.ini")["jobs"]
    assert cluster.call("jobs", "export", outcome["job_id"], tmp_path / "there").returncode == 0

    assert done.code == 0, done.err
    assert "job.ini: 4 files" in done.err
    assert "1 of them outside of its folder" in done.err
    assert "sending 4 files" in done.err
    assert outcome["state"] == "complete"
    assert numbers(tmp_path / "here") == numbers(tmp_path / "there") != {}
    assert f"exported: {tmp_path / 'here'}" in done.out

    job_ini = model / "job.ini"
    job_ini.write_text(job_ini.read_text() + "\n# edited\n")
    sent_before = link.sent_bytes
    again = desk.call(model, "run", "--detach", "job.ini", "-p", "investigation_time=2")

    assert again.code == 0, again.err
    assert "sending 1 file," in again.err
    assert link.sent_bytes - sent_before < job_ini.stat().st_size + 5000
    job_id = int(again.out)
    attached = desk.call(model, "attach", job_id)
    assert (attached.code, f"job {job_id} complete" in attached.out) == (0, True)
    exported = desk.call(model, "jobs", "export", job_id, "out")
    assert (exported.code, exported.err) == (0, "")
    assert numbers(model / "out").keys() == numbers(tmp_path / "there").keys()
    assert numbers(model / "out") != numbers(tmp_path / "there")  # for another time


def test_wrong_job_file_is_told_in_the_words_of_the_engine(desk: Desk, model: Path) -> None:
    """With the master's exit code; what cannot be sent is told without asking anybody."""
    job_ini = model / "job.ini"
    job_ini.write_text(job_ini.read_text().replace("classical", "nonsense"))

    wrong = desk.call(model, "run", "job.ini")
    absent = desk.call(model, "run", "absent.ini")

    assert (wrong.code, absent.code) == (2, 2)
    assert "nonsense" in wrong.err
    assert "absent.ini does not exist" in absent.err


@pytest.mark.full
def test_broken_links_do_not_end_a_run(linked: tuple[Desk, Link], model: Path, tmp_path: Path) -> None:
    """Neither while files are sent, each connection for some pieces only, nor while exports come."""
    desk, link = linked
    (model / "large.csv").write_bytes(os.urandom(6 << 20))
    job_ini = model / "job.ini"
    job_ini.write_text(job_ini.read_text() + "\n# large.csv is named here\n")
    link.cut_after_bytes, cut_before = 2_500_000, link.cut_count

    done = desk.call(model, "run", "job.ini", "--export-dir", tmp_path / "out")

    assert done.code == 0, done.err
    assert link.cut_count - cut_before >= 2
    assert list((tmp_path / "out").glob("*.csv"))


@pytest.mark.full
def test_example_of_the_manual_runs(desk: Desk, model: Path) -> None:
    """From a desk, with pandas and without the engine."""
    text = (REPOSITORY / "docs" / "how-to" / "from-your-desk.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)

    done = desk.python(model, example)

    assert done.code == 0, done.err
    assert re.match(r"complete \[.*'hcurves'", done.out)
    assert re.search(r"\n0\.\d+\n\d+ files\n$", done.out)


@pytest.mark.full
def test_calculation_is_aborted_by_an_interrupt(desk: Desk, tmp_path: Path) -> None:
    """In a script; the exit code is the master's."""
    folder = testing.copy_engine_case("event_based/case_6", tmp_path / "slow")
    running = desk.start(folder, "run", "job.ini", "-v")
    assert running.stderr is not None
    seen = ""
    while "tasks" not in seen:
        line = running.stderr.readline()
        assert line, seen
        seen += line

    running.send_signal(signal.SIGINT)
    _out, err = running.communicate(timeout=120)

    assert running.returncode == 4, seen + err
    assert "aborted" in err


@pytest.mark.full
def test_calculations_are_checked_compared_and_drawn(desk: Desk, model: Path) -> None:
    """By the engine of the master; what that cannot tell a desk is said in words."""
    checked = desk.call(model, "check", "job.ini")
    refused = desk.call(model, "check", "job.ini", "-p", "truncation_level=1")
    one = int(desk.call(model, "run", "job.ini", "--output", "quiet").out)
    other = int(desk.call(model, "run", "job.ini", "-p", "truncation_level=1", "--output", "quiet").out)
    compared = desk.call(model, "jobs", "compare", one, other, "--json")
    text = desk.call(model, "jobs", "compare", one, one)
    drawn = desk.call(model, "plot", one, "--kind", "hazard-curves", "--dir", "figures")

    assert (checked.code, checked.err) == (0, "")
    assert refused.code == 2
    assert "-p and --hc can be checked on the master only" in refused.err
    assert compared.code == 1, compared.err
    assert "truncation_level" in {each["name"] for each in compared.json["parameters"]}
    assert compared.json["inputs"] == []
    assert (text.code, "The inputs are the same." in text.out) == (0, True), text.err
    assert drawn.code == 0, drawn.err
    assert (model / "figures" / f"job-{one}-hazard-curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.full
def test_risk_starts_from_hazard(desk: Desk, tmp_path: Path) -> None:
    """By both job files at once, and by the number of the first."""
    folder = testing.copy_engine_case("classical_risk/case_4", tmp_path / "risk")

    both = desk.call(folder, "run", "job_haz.ini", "job_risk.ini", "--output", "quiet")
    hazard_id, risk_id = map(int, both.out.split())
    alone = desk.call(folder, "run", "job_risk.ini", "--hc", hazard_id, "--exports", "csv")

    assert (both.code, alone.code) == (0, 0), both.err + alone.err
    assert (
        desk.call(folder, "jobs", "show", risk_id, "--output", "json").json["hazard_calculation_id"]
        == hazard_id
    )
    assert "sending" not in alone.err
    assert "exported: " in alone.out


@pytest.mark.full
def test_following_goes_on_after_a_cut(cluster: Cluster, tmp_path: Path) -> None:
    """The connection to the dbserver is cut while the log comes."""
    settings = config.load_settings(cluster.state_dir, cluster.environ)
    folder = testing.copy_engine_case("event_based/case_6", tmp_path / "slow")
    (tmp_path / "desk").mkdir()
    with Link(("127.0.0.1", 0), ("127.0.0.1", settings.dbserver_port)) as link:
        place = f"127.0.0.1:{link.port}"
        desk = Desk(cluster, tmp_path / "desk", getpass.getuser(), dbserver=place)
        running = desk.start(folder, "run", "job.ini", "-v", "-p", "ses_per_logic_tree_path=20")
        assert running.stderr is not None
        seen = ""
        while "tasks" not in seen:
            line = running.stderr.readline()
            assert line, seen
            seen += line
        link.cut()
        out, err = running.communicate(timeout=300)

    assert running.returncode == 0, seen + err
    assert link.cut_count > 0
    assert "complete" in out


@pytest.mark.full
def test_master_that_does_not_answer_is_told(
    desk: Desk, cluster: Cluster, model: Path, tmp_path: Path
) -> None:
    """Soon, with the address and exit code 3, if nothing has answered yet."""
    (tmp_path / "desk").mkdir()
    far = Desk(cluster, tmp_path / "desk", getpass.getuser(), web="http://127.0.0.1:9")
    start_s = time.monotonic()

    done = far.call(model, "run", "job.ini")

    assert (done.code, "http://127.0.0.1:9" in done.err) == (3, True)
    assert time.monotonic() - start_s < 60


PROGRAM = """
import asyncio
import quakegrid

with quakegrid.Cluster() as cluster:
    job = cluster.run("job.ini", params={"truncation_level": 2})
    job.wait()
    print(job.state, [output.ds_key for output in job.outputs])
    print(sorted(path.name.rpartition("_")[0] for path in job.export("out")))
    print(list(job.dataframe("hcurves").columns))
    print(len(job.arrays("hcurves", kind="mean", imt="PGA")["mean"]))
    print(any("classical" in line.message for line in job.log()))
    print(job.progress.state, [each.operation for each in job.progress.operations])
    print(cluster.job(-1).id == job.id, job.id in [each.id for each in cluster.jobs()])

    async def main():
        again = await cluster.awaited.run("job.ini", hc=None)
        await again.wait()
        frame = await again.dataframe("hcurves")
        return len(frame), (await cluster.job(again.id)).state

    print(asyncio.run(main()))
    print(sorted({line.level for line in job.log()}))
"""


@pytest.mark.full
def test_program_has_the_same_job_on_the_master_and_from_a_desk(
    desk: Desk, cluster: Cluster, model: Path
) -> None:
    """Runs, waits, reads, exports; with pandas, which a desk has without the engine."""
    from_desk = desk.python(model, PROGRAM)
    on_master = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=model,
        env=cluster.environ | {"QUAKEGRID_STATE_DIR": str(cluster.state_dir)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert from_desk.code == 0, from_desk.err
    assert on_master.returncode == 0, on_master.stderr
    assert from_desk.out == on_master.stdout
    assert re.match(r"complete \[.*'hcurves'", from_desk.out)
    assert "['INFO'" in from_desk.out
    assert "mean/PGA/" in from_desk.out
