"""Real calculations for `bench_web`: one that computes meanwhile, and one with a large export."""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import httpx
import numpy as np

from benchmarks.support.figures import Figure
from benchmarks.web import transfers
from quakegrid import testing
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.settings.config import Settings

CASE = "event_based/case_6"
SES = "ses_per_logic_tree_path = "
# A second's work.
FEW = 3
# A classical calculation of a minute on two cores.
MEDIUM = Path(__file__).parents[1] / "medium"
END_S = 300.0
POLL_S = 0.05
LOOK_S = 10.0


def model(folder: Path, ses_count: int) -> bytes:
    """The case of the engine's tests, with so many stochastic event sets, as an archive."""
    job_ini = testing.copy_engine_case(CASE, folder) / "job.ini"
    lines = job_ini.read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith(SES) for line in lines) == 1
    lines = [f"{SES}{ses_count}" if line.startswith(SES) else line for line in lines]
    job_ini.write_text("\n".join(lines), encoding="utf-8")
    return Path(shutil.make_archive(str(folder), "zip", folder)).read_bytes()


def long_model(folder: Path) -> bytes:
    """The classical calculation of `bench_medium`, as an archive."""
    shutil.copytree(MEDIUM, folder, ignore=shutil.ignore_patterns("*.py", "risk.ini", "__pycache__"))
    return Path(shutil.make_archive(str(folder), "zip", folder)).read_bytes()


def start(web: httpx.Client, archive: bytes) -> int:
    """Send a calculation; its number."""
    answer = web.post("/v1/calc/run", files={"archive": ("model.zip", archive)})
    assert answer.status_code == http.client.OK, answer.text
    return int(answer.json()["job_id"])


def wait_until(is_so: Callable[[], Any], what: str) -> None:
    """Ask until it is so."""
    end_s = time.monotonic() + END_S
    while not is_so():
        assert time.monotonic() < end_s, f"never came: {what}"
        time.sleep(POLL_S)


@contextmanager
def calculation(settings: Settings, folder: Path) -> Iterator[Callable[[], bool]]:
    """A calculation whose workers compute; gives whether it still does. It is aborted at the end."""
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.web_port}", timeout=60) as web:
        job_id = start(web, long_model(folder / "long"))

        def busy_part() -> float:
            """The part of the cores that work on it now; below 0 once it has ended."""
            fleet = web.get("/live/fleet.json").json()
            mine = [each for each in fleet["sessions"] if each["job_ids"] == [job_id]]
            cores = sum(node["core_count"] for node in fleet["nodes"])
            return mine[0]["busy_worker_count"] / cores if mine else -1.0

        def still_computes() -> bool:
            # A worker that waits for its next task is not busy for a moment.
            end_s = time.monotonic() + LOOK_S
            while 0 <= (part := busy_part()) < 1 and time.monotonic() < end_s:
                time.sleep(POLL_S)
            return part == 1

        wait_until(lambda: busy_part() == 1, "workers that compute")
        try:
            yield still_computes
        finally:
            web.post(f"/v1/calc/{job_id}/abort")


def large_export(settings: Settings, database: DbClient, folder: Path, pid: int) -> Figure:
    """What the export of a gigabyte of ground motion by the engine costs the web service.

    Args:
        settings: of the cluster.
        database: of it.
        folder: for files.
        pid: of the web service.
    """
    port = settings.web_port
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as web:
        job_id = start(web, model(folder / "short", FEW))
        wait_until(lambda: web.get(f"/v1/calc/{job_id}/status").json()["status"] == "complete", "its end")
        outputs = web.get(f"/v1/calc/{job_id}/results").json()
        (output,) = (each for each in outputs if each["type"] == "gmf_data")
        enlarge(Path(f"{database.jobs.get_job(job_id).ds_calc_dir}.hdf5"))
    before_mib = transfers.memory_mib(pid, "VmHWM")
    _, size = transfers.download_s(port, f"/v1/calc/result/{output['id']}?export_type=hdf5")
    assert size > transfers.GIB, f"the export has {size} bytes only"
    after_mib = transfers.memory_mib(pid, "VmHWM")
    return Figure("export of 1 GB, memory above the most before", after_mib - before_mib, "MiB", at_most=8)


def enlarge(path: Path) -> None:
    """Give the ground motion in a datastore so many rows that it has a gigabyte."""
    with h5py.File(path, "r+") as file:
        columns = [name for name in file["gmf_data"] if name in ("eid", "sid") or name.startswith("gmv_")]
        count = transfers.GIB // sum(file[f"gmf_data/{name}"].dtype.itemsize for name in columns) + 1
        for name in columns:
            kind = file[f"gmf_data/{name}"].dtype
            del file[f"gmf_data/{name}"]
            file.create_dataset(f"gmf_data/{name}", data=np.resize(np.arange(1000, dtype=kind), count))
