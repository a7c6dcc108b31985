"""Clients that know nothing of QuakeGrid work with its web service: QGIS's plugin, and the engine's own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from quakegrid import testing
from tests.engine.web.qgis import EXTRACTS, QgisClient
from tests.engine.web_servers import Server
from tests.support.clusters import Cluster

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.full]
END_S = 300.0
GZIP = b"\x1f\x8b"
SCRIPT = Path(__file__).with_name("plain_extracts.py")
# Folders of the engine's tests, and what must be among their extracts.
CASES = {
    "disagg/case_1": {"disagg_layer", "hcurves", "hmaps", "realizations", "sitecol"},
    "classical_risk/case_3": {"exposure_metadata", "asset_tags", "losses_by_asset"},
    "event_based_risk/case_master": {"events", "realizations", "sitecol"},
    "scenario_damage/case_9": {"damages-rlzs", "composite_risk_model.attrs", "events"},
}  # fmt: skip


@pytest.fixture
def qgis(ours: Server) -> QgisClient:
    """A client of our service."""
    return QgisClient(ours.address)


def zip_of(folder: Path) -> Path:
    """A folder's archive."""
    return Path(shutil.make_archive(str(folder.with_name("sent")), "zip", folder))


def follow(qgis: QgisClient, job_id: int) -> str:
    """Poll a calculation as the plugin does, until it has ended; its last state."""
    end_s, seen = time.monotonic() + END_S, 0
    while True:
        (row,) = (each for each in qgis.calculations() if each["id"] == job_id)
        lines = qgis.log(job_id, seen)
        assert all(len(line) == 4 for line in lines)
        seen += len(lines)
        if not row["is_running"]:
            assert seen
            return str(qgis.status(job_id)["status"])
        assert time.monotonic() < end_s, row
        time.sleep(0.05)


@pytest.mark.parametrize("case", list(CASES))
def test_outputs_and_layers(qgis: QgisClient, cluster: Cluster, tmp_path: Path, case: str) -> None:
    """Runs a zip, downloads each output in each format, extracts for layers: as the plain engine does."""
    assert qgis.version() >= (3, 26)
    job_id = qgis.run(zip_of(testing.copy_engine_case(case, tmp_path / "case")))
    assert follow(qgis, job_id) == "complete", cluster.log(job_id)

    for output in qgis.outputs(job_id):
        for kind in output["outtypes"]:
            path = qgis.download(output["id"], kind, tmp_path)
            assert path.stat().st_size
            if path.suffix == ".zip":
                with zipfile.ZipFile(path) as archive:
                    assert archive.testzip() is None
    datastore = qgis.datastore(job_id, tmp_path)
    assert datastore.read_bytes() == Path(f"{cluster.job(job_id)['ds_calc_dir']}.hdf5").read_bytes()
    expected = plain_extracts(datastore, tmp_path)
    assert expected.keys() >= CASES[case]
    for what in EXTRACTS:
        found = qgis.extract(job_id, what)
        assert (found is not None) == (what in expected), what
        if found is not None:
            same_arrays(found, dict(np.load(expected[what])), what)
    assert "success" in qgis.post(job_id, "remove")
    assert job_id not in [each["id"] for each in qgis.calculations()]


def plain_extracts(datastore: Path, folder: Path) -> dict[str, str]:
    """Files with what the plain engine extracts of a datastore, as far as there is such."""
    (folder / "home").mkdir()
    command = [sys.executable, str(SCRIPT), str(datastore), str(folder), *EXTRACTS]
    environ = testing.isolated_environ(folder / "home") | {"OQ_DISTRIBUTE": "no"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=END_S, check=True)
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def same_arrays(own: dict[str, np.ndarray], theirs: dict[str, np.ndarray], what: str) -> None:
    """Names, types and values."""
    assert own.keys() == theirs.keys(), what
    for name, array in own.items():
        assert array.dtype == theirs[name].dtype, (what, name)
        if array.ndim == 0 and (packed := array.tobytes()).startswith(GZIP):  # with the time of its making
            assert packed[8:] == theirs[name].tobytes()[8:], (what, name)
        else:
            np.testing.assert_array_equal(array, theirs[name], f"{what} {name}")


def test_hazard_then_risk(qgis: QgisClient, cluster: Cluster, tmp_path: Path) -> None:
    """One archive has both job files; the second run names the first one's number."""
    archive = zip_of(testing.copy_engine_case("classical_risk/case_4", tmp_path / "case"))

    hazard_id = qgis.run(archive, job_ini="job_haz.ini")
    assert follow(qgis, hazard_id) == "complete", cluster.log(hazard_id)
    risk_id = qgis.run(archive, hazard_id, "job_risk.ini")

    assert follow(qgis, risk_id) == "complete", cluster.log(risk_id)
    assert {each["type"] for each in qgis.outputs(risk_id)} & {"loss_curves-stats", "avg_losses-stats"}


def test_engines_own_clients(ours: Server, cluster: Cluster, tmp_path: Path) -> None:
    """`oq extract --webapi` and `oq importcalc` of the plain engine, which use its `WebExtractor`."""
    home = tmp_path / "home"
    home.mkdir()
    config = tmp_path / "openquake.cfg"
    config.write_text(f"[webapi]\nserver = http://{ours.address}\nusername =\npassword =\n")
    environ = testing.isolated_environ(home) | {
        "OQ_CONFIG_FILE": str(config), "OQ_DISTRIBUTE": "no", "OQ_DATABASE": "127.0.0.1",
    }  # fmt: skip
    # A number that the plain engine's own database does not have.
    job_ini = testing.copy_engine_case("classical/case_01", tmp_path / "case") / "job.ini"
    (outcome,) = cluster.json("run", job_ini)["jobs"]
    job_id = outcome["job_id"]

    def oq(*args: str) -> str:
        command = [str(Path(sys.executable).with_name("oq")), *args]
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=END_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = oq("extract", "hcurves?kind=mean", str(job_id), "--webapi")
    oq("engine", "--upgrade-db")  # makes its own database
    imported = oq("importcalc", str(job_id))

    assert "Saved" in said
    assert list(tmp_path.glob("hcurves*.npz"))
    assert "input_size" in imported or "checksum32" in imported
    (store,) = (home / "oqdata").glob("calc_*.hdf5")
    assert store.read_bytes()[:8] == b"\x89HDF\r\n\x1a\n"
    assert os.path.getsize(store) > 10_000  # noqa: PTH202 - a path of another program
