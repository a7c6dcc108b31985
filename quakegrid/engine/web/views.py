"""What the web service asks an engine for: `run_mode` runs one request of it in a driver of its own.

Each answers with one event `view`. What it makes as files goes to the service as a descriptor. The driver
runs as the account of the calculation's owner, so a view reads what the owner may read; it names one
calculation.
"""

from __future__ import annotations

import datetime
import getpass
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openquake.baselib import hdf5
from openquake.calculators import export as engine_export
from openquake.commonlib import datastore, readinput

from quakegrid import errors
from quakegrid.engine.driver import stops
from quakegrid.engine.web import answers, facts, inputs, memory_bound, result_numbers, validations
from quakegrid.engine.web.pictures import catalogue

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess


def main(argv: Sequence[str], driver: DriverProcess) -> None:
    """Answer one request.

    Args:
        argv: name of the view, and its arguments.
        driver: this process.
    Raises:
        QuakeGridError: the engine could not make it.
    """
    name, *args = argv
    memory_bound.set_here()
    reply_fd, *given_fds = driver.given_fds
    folder = tempfile.mkdtemp()  # below that of this driver, which the agent removes
    try:
        if name in FILES:
            made = FILES[name](driver, *args, folder)
        elif name in GIVEN:
            made = GIVEN[name](*given_fds, *args, folder)
        else:
            made = OTHERS[name](driver, *args)
        made = answers.hand_over(reply_fd, made)
    except (errors.NotFoundError, errors.UsageError) as exc:
        made = {"refusal": str(exc), "is_missing": isinstance(exc, errors.NotFoundError)}
    driver.events.tell({"event": "view", **made})


def export(driver: DriverProcess, output_id: str, kind: str, folder: str) -> dict[str, Any]:
    """Export an output in a format; the paths of the files, none if it has no such format."""
    from openquake.engine.export import core  # noqa: PLC0415 - after the seams

    job_id, _state, _user, data_dir, ds_key = driver.database.call("get_result", int(output_id))
    if (ds_key, kind) not in engine_export.export:
        return {"ds_key": ds_key, "paths": []}
    _check_datastore(driver, job_id)
    paths = core.export_from_db((ds_key, kind), job_id, data_dir, folder)
    found = [str(path) for path in paths or ()]
    archive = f"{ds_key.replace('/', '-')}-{kind}.zip" if len(found) > 1 else None
    return {"ds_key": ds_key, "paths": found, "zip_name": archive}


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
        raise errors.QuakeGridError(f"cannot extract {what} of job {job_id}: {_why(exc)}") from exc
    return {"paths": [str(path)]}


def _why(exc: Exception) -> str:
    """Why the engine could not extract something; of a datastore that lacks it, without the datastore."""
    words = stops.one_line(exc)
    return "the calculation has nothing of this name" if "found in <DataStore" in words else words


def _check_datastore(driver: DriverProcess, job_id: int) -> str:
    """The path of a job's datastore, which is there."""
    job = driver.database.call("get_job", job_id)
    if job is None:
        raise errors.NotFoundError(f"there is no job {job_id}")
    path = f"{job.ds_calc_dir}.hdf5"
    try:
        is_there = Path(path).exists()
    except PermissionError:
        whom = getpass.getuser()
        raise errors.NotFoundError(
            f"{path} cannot be read as the account that works for {whom} here"
        ) from None
    if not is_there:
        raise errors.NotFoundError(f"the datastore of job {job_id} is gone: {path}")
    return path


def whole_datastore(driver: DriverProcess, job_id: str, _folder: str) -> dict[str, Any]:
    """The datastore as it is."""
    return {"own_path": _check_datastore(driver, int(job_id))}


def job_zip(driver: DriverProcess, job_id: str, folder: str) -> dict[str, Any]:
    """Export the inputs of a risk calculation as the engine makes them from its datastore; paths of files."""
    try:
        with datastore.read(_check_datastore(driver, int(job_id))) as store:
            store.export_dir = folder
            paths = engine_export.export(("job", "zip"), store)
    except errors.QuakeGridError:
        raise
    except Exception as exc:
        raise errors.UsageError(f"job {job_id} has no job.zip: {stops.one_line(exc)}") from exc
    return {"paths": [str(path) for path in paths], "zip_name": f"job_{job_id}.zip"}


def picture(driver: DriverProcess, job_id: str, what: str, folder: str) -> dict[str, Any]:
    """Write a picture that a calculation has stored as a PNG file; its path."""
    from PIL import Image  # noqa: PLC0415 - only a few calculations have pictures

    path = Path(folder, "picture.png")
    with datastore.read(_check_datastore(driver, int(job_id))) as store:
        name = f"png/{what}"
        if name not in store:
            raise errors.NotFoundError(f"job {job_id} has no picture {what}")
        Image.fromarray(store[name][:]).save(path, format="png")
    return {"paths": [str(path)]}


def drawing(driver: DriverProcess, job_id: str, kind: str, asked: str, folder: str) -> dict[str, Any]:
    """Write what a page draws as a JSON file; its path.

    Args:
        driver: this process.
        job_id: of the calculation.
        kind: of the picture; empty for the list of those that there are.
        asked: JSON of what was chosen.
        folder: where the file is written.
    """
    path = Path(folder, "drawing.json")
    with datastore.read(_check_datastore(driver, int(job_id))) as store:
        made = catalogue.make(store, kind, json.loads(asked)) if kind else catalogue.listed(store)
    path.write_text(json.dumps(made, allow_nan=False))
    return {"paths": [str(path)]}


def parameters(driver: DriverProcess, job_id: str, folder: str) -> dict[str, Any]:
    """Write the parameters of a calculation as a JSON file of texts; its path."""
    path = Path(folder, "parameters.json")
    with datastore.read(_check_datastore(driver, int(job_id))) as store:
        found = vars(store["oqparam"])
    named = {name: _text(value) for name, value in sorted(found.items()) if not name.startswith("_")}
    path.write_text(json.dumps(named))
    return {"paths": [str(path)]}


def input_digests(driver: DriverProcess, job_id: str, folder: str) -> dict[str, Any]:
    """Write the contents of a calculation's inputs in few characters, by name, as a JSON file; its path."""
    path = Path(folder, "inputs.json")
    with datastore.read(_check_datastore(driver, int(job_id))) as store:
        files = store["oqparam"].inputs
    path.write_text(json.dumps(result_numbers.digests(files, _begin_s(driver, int(job_id)))))
    return {"paths": [str(path)]}


def numbers(driver: DriverProcess, job_id: str, folder: str) -> dict[str, Any]:
    """Write what a calculation has computed as a file of numbers; its path."""
    path = Path(folder, "numbers")
    exportable = {key for key, _kind in engine_export.export}
    with datastore.read(_check_datastore(driver, int(job_id))) as store:
        results = result_numbers.results_of(store.hdf5, exportable)
        result_numbers.write(results, store["oqparam"].inputs, path, _begin_s(driver, int(job_id)))
    return {"paths": [str(path)]}


def _begin_s(driver: DriverProcess, job_id: int) -> float:
    """When a job began, in seconds since 1970; the database has UTC."""
    began: datetime.datetime = driver.database.call("get_job", job_id).start_time
    return began.replace(tzinfo=datetime.UTC).timestamp()


def differences(one_fd: int, other_fd: int, folder: str) -> dict[str, Any]:
    """Write how two files of numbers differ as a JSON file; its path."""
    path = Path(folder, "differences.json")
    path.write_text(json.dumps(result_numbers.compare(one_fd, other_fd), allow_nan=False))
    return {"paths": [str(path)]}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def jobs_from_inis(driver: DriverProcess, *job_inis: str) -> dict[str, Any]:
    """The jobs that have computed these job files already; 0 for none.

    Raises:
        UsageError: one cannot be read.
    """
    found = []
    for job_ini in job_inis:
        try:
            checksum = readinput.get_checksum32(readinput.get_oqparam(job_ini))
        except Exception as exc:
            raise errors.UsageError(f"cannot read {Path(job_ini).name}: {stops.job_file_line(exc)}") from exc
        rows = driver.database.call("SELECT job_id FROM checksum WHERE hazard_checksum=?x", checksum)
        found.append(rows[0].job_id if rows else 0)
    return {"job_ids": found}


def remove(_driver: DriverProcess, asked: str) -> dict[str, Any]:
    """Remove files of this account.

    Args:
        asked: JSON with `inputs`, names of folders of inputs, and `datastores`, paths of datastores' files.
    """
    wanted = json.loads(asked)
    try:
        inputs.remove(wanted["inputs"])
        for path in wanted["datastores"]:
            Path(path).unlink(missing_ok=True)
    except OSError as exc:
        raise errors.UsageError(f"cannot remove {exc.filename}: {exc.strerror}") from exc
    return {}


def for_command(argv: Sequence[str], driver: DriverProcess) -> None:
    """Answer a command line of this machine with one event: of a view that makes a text, the text.

    Args:
        argv: name of the view, and its arguments.
        driver: this process.
    Raises:
        QuakeGridError: the engine could not make it.
    """
    name, *args = argv
    memory_bound.set_here(memory_bound.SHARE_OF_CHECK if name == "check" else memory_bound.SHARE)
    if name in OTHERS:
        made = OTHERS[name](driver, *args)
    else:
        with tempfile.TemporaryDirectory() as folder:
            made = FILES[name](driver, *args, folder)
            made = {"text": Path(made["paths"][0]).read_text(encoding="utf-8")}
    driver.events.tell({"event": "answer", **made})


def check(_driver: DriverProcess, asked: str) -> dict[str, Any]:
    """What can be known of a calculation before it runs.

    Args:
        asked: JSON with `job_ini`, `params` and `parent_id`, as `job_check.check` takes them.
    """
    from quakegrid.engine.checks import job_check  # noqa: PLC0415 - few requests need it

    wanted = json.loads(asked)
    return job_check.check(wanted["job_ini"], wanted["params"], wanted["parent_id"])


# Views that make files in a folder.
FILES: dict[str, Callable[..., dict[str, Any]]] = {
    "export": export,
    "extract": extract,
    "job_zip": job_zip,
    "picture": picture,
    "drawing": drawing,
    "parameters": parameters,
    "inputs": input_digests,
    "numbers": numbers,
    "datastore": whole_datastore,
    "available_gsims": facts.available_gsims,
    "ini_defaults": facts.ini_defaults,
}
# Views that read what the service gives them: a folder that was sent, or files.
GIVEN: dict[str, Callable[..., dict[str, Any]]] = {
    "nrml": validations.nrml_file,
    "validate": validations.job,
    "differences": differences,
}
OTHERS: dict[str, Callable[..., dict[str, Any]]] = {
    "formats": facts.formats,
    "jobs_from_inis": jobs_from_inis,
    "validate_own": validations.own_job,
    "remove": remove,
    "check": check,
}
