"""Mode "run" of a driver: runs calculations, exports outputs, or answers the web service; tells it in events.

`process.DriverProcess` holds the connections; the engine does the work.
"""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openquake.calculators import export as engine_export
from openquake.commonlib import logs
from openquake.commonlib.oqvalidation import OqParam

from quakegrid import errors
from quakegrid.clients.dbserver import own_jobs
from quakegrid.engine import versions
from quakegrid.engine.driver import attach_mode, earlier_jobs, exports, parameters, stops
from quakegrid.engine.driver.exports import WholeExports
from quakegrid.engine.replay import resume_mode
from quakegrid.engine.tasks import failures
from quakegrid.engine.web import starts, views
from quakegrid.nodes import engine_version

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess


def main(argv: Sequence[str], driver: DriverProcess) -> int:
    """Do what a command line asked for, and tell how it ended; the exit code.

    Args:
        argv: `engine --run JOB.ini... OPTIONS`, `export ID DIR FORMATS`, `extract ID WHAT DIR`,
            `view NAME ARGUMENTS`, `ask NAME ARGUMENTS`, `start JSON`, `attach ID [-v]` or
            `resume ID... OPTIONS`.
        driver: this process.
    """
    is_export = argv[0] in {"export", "extract", "view", "ask", "attach"}
    try:
        if argv[0] == "view":
            views.main(argv[1:], driver)
        elif argv[0] == "ask":
            views.for_command(argv[1:], driver)
        elif argv[0] == "start":
            starts.main(argv[1], driver)
        elif argv[0] == resume_mode.COMMAND:
            resume_mode.main(argv, driver)
        elif argv[0] == "attach":
            return attach_mode.main(argv[1:], driver)
        elif is_export:
            _write(argv, driver)
        else:
            _calculate(_parse_run(argv), driver)
    except BaseException as exc:  # noqa: BLE001 - told to the person who waits
        return _report_failure(driver, exc, is_export=is_export)
    return _report_end(driver, 0)


def _exporters() -> WholeExports:
    assert isinstance(engine_export.export, WholeExports), "the template took it over"
    return engine_export.export


def _report_failure(driver: DriverProcess, exc: BaseException, *, is_export: bool) -> int:
    """Tell why there is no result; the exit code."""
    end = driver.judge(exc)
    job_ids = driver.database.job_ids
    driver.end_jobs(job_ids, end)
    if end.state == "aborted":
        code = errors.EXIT_STOPPED
    elif isinstance(exc, errors.QuakeGridError):
        code = exc.exit_code
    else:
        code = errors.EXIT_FAILED if job_ids or is_export else errors.EXIT_USAGE
    ended = list(driver.database.ends) or job_ids  # the first to end is the one that went wrong
    message = end.reason + ("" if end.state == "aborted" else failures.disk_hint())
    driver.events.tell({"event": "error", "message": message, "job_id": ended[0] if ended else None})
    return _report_end(driver, code)


def _report_end(driver: DriverProcess, code: int) -> int:
    """Tell how each job ended, and what was exported; the exit code."""
    driver.end_session()
    database, table = driver.database, _exporters()
    for job_id in [*database.earlier_ids, *database.job_ids]:
        job = database.call("get_job", job_id)
        rows = [
            [str(each.id), each.display_name, each.ds_key] for each in database.call("get_outputs", job_id)
        ]
        end = database.ends.get(job_id)
        driver.events.tell(
            {
                "event": "end",
                "job_id": job_id,
                "state": job.status,
                "reason": end.reason if end else "",
                "datastore": f"{job.ds_calc_dir}.hdf5",
                "outputs": rows,
            }
        )
    if table.written:
        driver.events.tell({"event": "exported", "paths": sorted(table.written)})
    if table.failures:
        driver.events.tell({"event": "not_exported", "failures": [str(each) for each in table.failures]})
        return code or errors.EXIT_FAILED
    return code


# --- calculations


def _parse_run(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quakegrid run")
    parser.add_argument("engine")
    parser.add_argument("--run", nargs="+", required=True)
    parser.add_argument("--hazard-calculation-id", "--hc")
    parser.add_argument("--exports", default="")
    parser.add_argument("--export-dir")
    parser.add_argument("--param", "-p", default="")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--cores-per-worker", type=int, default=1)
    return parser.parse_args(argv)


def _calculate(args: argparse.Namespace, driver: DriverProcess) -> None:
    """What upstream's `oq engine --run` does, with an export directory."""
    from openquake.engine import engine  # noqa: PLC0415 - after the seams

    driver.weight, driver.cores_per_worker = args.weight, args.cores_per_worker
    if doubt := engine_version.doubt():
        driver.events.tell({"event": "log", "job_id": None, "level": "WARNING", "message": doubt})
    exports.check_formats(args.exports, _exporters().formats)
    overrides = dict(item.split("=", 1) for item in args.param.split(",")) if args.param else {}
    parameters.check(overrides, parameters.known_to(OqParam), OqParam.KNOWN_INPUTS)
    Path(logs.get_datadir()).mkdir(parents=True, exist_ok=True)
    hc_id = None if args.hazard_calculation_id is None else versions.calculation(args.hazard_calculation_id)
    if isinstance(hc_id, int):
        hc_id = _parent_id(driver, hc_id)
    try:
        jobs = engine.create_jobs(args.run, args.log_level, None, getpass.getuser(), hc_id)
    except errors.QuakeGridError:
        raise
    except Exception as exc:
        raise errors.UsageError(f"cannot read {' '.join(args.run)}: {stops.job_file_line(exc)}") from exc
    for job in jobs:
        job.params.update(overrides)
        job.params["exports"] = args.exports
        if args.export_dir:
            job.params["export_dir"] = str(Path(args.export_dir).absolute())
    engine.run_jobs(jobs, precalc=hc_id is None)


def _parent_id(driver: DriverProcess, number: int) -> int:
    """The job that a calculation starts from; a negative number counts one's own from the end."""
    parent = driver.database.call("get_job", own_jobs.own_job_id(driver.database.client, number))
    if parent is None:
        raise errors.NotFoundError(f"there is no job {number} to start from (--hc)")
    is_bad = parent.status in earlier_jobs.ENDED_BADLY
    count = driver.journals.recorded_count(parent.id) if is_bad else 0
    warning = earlier_jobs.doubt(parent.id, parent.status, Path(f"{parent.ds_calc_dir}.hdf5"), count)
    if warning:
        driver.events.tell({"event": "log", "job_id": None, "level": "WARNING", "message": warning})
    return int(parent.id)


# --- exports


def _write(argv: Sequence[str], driver: DriverProcess) -> None:
    """Write what a job has as files: outputs, or arrays of its datastore."""
    if argv[0] == "extract":
        made = views.extract(driver, argv[1], argv[2], argv[3])
        driver.events.tell({"event": "exported", **made})
    else:
        _export(int(argv[1]), Path(argv[2]), argv[3], driver)


def _export(job_id: int, folder: Path, formats: str, driver: DriverProcess) -> None:
    """Export all outputs of a job in each of the formats that they have.

    Raises:
        QuakeGridError: there is nothing to export.
    """
    from openquake.engine.export import core  # noqa: PLC0415 - after the seams

    table = _exporters()
    kinds = exports.check_formats(formats, table.formats)
    job = driver.database.call("get_job", job_id)
    if job is None:
        raise errors.NotFoundError(f"there is no job {job_id}; `quakegrid jobs list` shows those there are")
    data_dir, ds_keys = driver.database.call("get_results", job_id)
    if not ds_keys:
        raise errors.StateError(f"job {job_id} is {job.status} and has no outputs to export")
    if not Path(f"{job.ds_calc_dir}.hdf5").exists():
        raise errors.NotFoundError(f"the datastore of job {job_id} is gone: {job.ds_calc_dir}.hdf5")
    wanted = [(ds_key, kind) for ds_key in ds_keys for kind in kinds if (ds_key, kind) in table]
    if not wanted:
        raise errors.UsageError(f"job {job_id} has no output that can be exported as {formats}")
    exports.make_folder(folder)
    for output in wanted:
        try:
            core.export_from_db(output, job_id, data_dir, str(folder))
        except Exception:  # the table remembers why, and the other outputs may be fine
            if not any((each.ds_key, each.kind) == output for each in table.failures):
                raise
