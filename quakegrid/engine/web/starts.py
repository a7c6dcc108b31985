"""Starts a calculation that the web service was sent, in a driver of its own.

Does what the engine's server does: makes the job, reads its file, tells whether it was accepted, and runs it.
A job that is refused stays in the list as failed, with its traceback, as upstream's does.
"""

from __future__ import annotations

import datetime
import getpass
import json
import logging
import os
import shutil
import tempfile
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openquake.baselib import config
from openquake.commonlib import logs, readinput
from openquake.commonlib.oqvalidation import OqParam

from quakegrid import errors
from quakegrid.engine.driver import earlier_jobs, parameters
from quakegrid.engine.web import inputs

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess

# Of the row, until the job file has been read; upstream's words.
FIRST = {"calculation_mode": "custom", "description": "Calculation waiting to start"}
# What the engine has instead of a path where there is no file.
NO_FILE = "<in-memory>"


def main(text: str, driver: DriverProcess) -> None:
    """Start a calculation and run it to its end.

    Args:
        text: JSON with `job_ini` (path), `root` (folder that holds all its inputs, of which the driver has a
            descriptor; null for the person's own files), `name` (of the folder for these inputs, if the
            person is to have them), `hazard_job_id` and `notify_to` (or null); and where the person has
            chosen so, `params`, `weight` and `cores_per_worker` as `quakegrid run` has them.
        driver: this process.
    Raises:
        Exception: it was refused, or has failed.
    """
    from openquake.engine import engine  # noqa: PLC0415 - after the seams

    asked = json.loads(text)
    driver.weight = float(asked.get("weight", 1.0))
    driver.cores_per_worker = int(asked.get("cores_per_worker", 1))
    taken = _take(asked, driver)
    Path(logs.get_datadir()).mkdir(parents=True, exist_ok=True)
    log_level = config.distribution.log_level
    # The first line that is logged would set the level otherwise, and hide how far the calculation is.
    logging.root.setLevel(logs.LEVELS.get(log_level, log_level))
    hc_id = asked["hazard_job_id"]
    (job,) = engine.create_jobs([dict(FIRST)], log_level, None, getpass.getuser(), hc_id)
    try:
        job.oqparam = _read(asked, driver)
        row = {
            "calculation_mode": job.oqparam.calculation_mode,
            "description": job.oqparam.description,
            "hazard_calculation_id": hc_id,
        }
        logs.dbcmd("update_job", job.calc_id, row)
    except Exception as exc:
        words = traceback.format_exc()
        logs.dbcmd(
            "log", job.calc_id, datetime.datetime.now(datetime.UTC), "CRITICAL", "before starting", words
        )
        logs.dbcmd("finish", job.calc_id, "failed")
        lines = (words + str(exc)).splitlines()
        if taken is not None:
            os.chdir("/")
            shutil.rmtree(taken, ignore_errors=True)
        driver.events.tell({"event": "not_accepted", "job_id": job.calc_id, "traceback": lines})
        raise
    driver.events.tell({"event": "accepted", "job_id": job.calc_id})
    engine.run_jobs([job], 1, notify_to=asked["notify_to"])


def _take(asked: dict[str, Any], driver: DriverProcess) -> Path | None:
    """Take inputs of another account into a folder of this one, and work there; None if there are none.

    A driver that starts the same calculation again is given nothing, and finds what the first one has taken.
    """
    if driver.given_fds and inputs.is_foreign(driver.given_fds[0]):
        driver.events.tell({"event": "taking"})
        taken = inputs.take(driver.given_fds[0], asked["name"])
    elif driver.given_fds or not asked["root"] or os.access(asked["root"], os.R_OK | os.X_OK):
        return None
    else:
        taken = inputs.place_of(asked["name"])
    asked["job_ini"] = str(taken / Path(asked["job_ini"]).relative_to(asked["root"]))
    asked["root"] = str(taken)
    os.chdir(taken)
    driver.events.tell({"event": "taken"})
    return taken


def _read(asked: dict[str, Any], driver: DriverProcess) -> Any:
    """The parameters of the job file, judged by the engine.

    Raises:
        Exception: of the engine; it says what is wrong.
    """
    if asked["hazard_job_id"] is not None:
        _check_parent(asked["hazard_job_id"], driver)
    root = asked["root"]
    export_dir = root or config.directory.custom_tmp or tempfile.gettempdir()
    chosen = asked.get("params", {})
    parameters.check(chosen, parameters.known_to(OqParam), OqParam.KNOWN_INPUTS)
    given = {**chosen, "hazard_calculation_id": asked["hazard_job_id"], "export_dir": export_dir}
    oqparam = readinput.get_oqparam(asked["job_ini"], kw=given)
    if root:
        check_inside(oqparam._input_files, Path(root))  # noqa: SLF001 - it has no other name
    return oqparam


def check_inside(paths: Iterable[str], root: Path) -> None:
    """Refuse inputs that lie outside of a folder, whatever names lead to them.

    Raises:
        UsageError: one does; without a word of its content.
    """
    root = root.resolve()
    for path in paths:
        if path != NO_FILE and not Path(path).resolve().is_relative_to(root):
            raise errors.UsageError(f"an input lies outside of what was sent: {Path(path).name}")


def _check_parent(job_id: int, driver: DriverProcess) -> None:
    parent = driver.database.call("get_job", job_id)
    if parent is None:
        raise errors.NotFoundError(f"there is no calculation {job_id} to start from")
    earlier_jobs.doubt(parent.id, parent.status, Path(f"{parent.ds_calc_dir}.hdf5"))
