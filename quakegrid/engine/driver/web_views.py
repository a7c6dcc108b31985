"""What the web service asks an engine for: `run_mode` runs one request of it in a driver of its own.

Each answers with one event `view`, and writes files into a folder that the service has made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openquake.baselib import hdf5
from openquake.baselib.general import groupby
from openquake.calculators import export as engine_export
from openquake.commonlib import datastore

from quakegrid import errors
from quakegrid.engine.driver import stops

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess

# Upstream shows no output in this format.
HIDDEN_FORMAT = "txt"


def main(argv: Sequence[str], driver: DriverProcess) -> None:
    """Answer one request.

    Args:
        argv: name of the view, and its arguments.
        driver: this process.
    Raises:
        QuakeGridError: there is no such thing, or the engine could not make it.
    """
    name, *args = argv
    driver.events.tell({"event": "view", **VIEWS[name](driver, *args)})


def formats(_driver: DriverProcess) -> dict[str, Any]:
    """The formats of each kind of output, in upstream's order."""
    found = groupby(engine_export.export, lambda key: key[0], lambda keys: [kind for _, kind in keys])
    return {
        "formats": {key: [kind for kind in kinds if kind != HIDDEN_FORMAT] for key, kinds in found.items()}
    }


def export(driver: DriverProcess, output_id: str, kind: str, folder: str) -> dict[str, Any]:
    """Export an output in a format; the paths of the files, none if it has no such format."""
    from openquake.engine.export import core  # noqa: PLC0415 - after the seams

    job_id, _state, _user, data_dir, ds_key = driver.database.call("get_result", int(output_id))
    if (ds_key, kind) not in engine_export.export:
        return {"ds_key": ds_key, "paths": []}
    _check_datastore(driver, job_id)
    paths = core.export_from_db((ds_key, kind), job_id, data_dir, folder)
    return {"ds_key": ds_key, "paths": [str(path) for path in paths or ()]}


def extract(driver: DriverProcess, job_id: str, what: str, folder: str) -> dict[str, Any]:
    """Extract something from a datastore into a .npz file; its path."""
    from openquake.calculators.extract import extract as engine_extract  # noqa: PLC0415 - after the seams

    path = Path(folder, f"{what.partition('?')[0].replace('/', '-')}.npz")
    try:
        with datastore.read(_check_datastore(driver, int(job_id))) as store:
            hdf5.save_npz(engine_extract(store, what), str(path))
    except errors.QuakeGridError:
        raise
    except Exception as exc:
        raise errors.QuakeGridError(f"cannot extract {what} of job {job_id}: {stops.one_line(exc)}") from exc
    return {"paths": [str(path)]}


def _check_datastore(driver: DriverProcess, job_id: int) -> str:
    """The path of a job's datastore, which is there."""
    job = driver.database.call("get_job", job_id)
    if job is None:
        raise errors.NotFoundError(f"there is no job {job_id}")
    path = f"{job.ds_calc_dir}.hdf5"
    if not Path(path).exists():
        raise errors.NotFoundError(f"the datastore of job {job_id} is gone: {path}")
    return path


VIEWS: dict[str, Callable[..., dict[str, Any]]] = {"formats": formats, "export": export, "extract": extract}
