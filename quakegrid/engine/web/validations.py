"""Whether inputs are valid: one XML file, or all of a calculation. Nothing is computed, no job is made."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.parsers.expat import ExpatError

from openquake.hazardlib import nrml

from quakegrid.engine.checks import reading
from quakegrid.engine.driver import stops
from quakegrid.engine.web import inputs, starts

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess

_LINE = re.compile(r"line (\d+)")


def nrml_file(folder_fd: int, name: str, folder: str) -> dict[str, Any]:
    """Whether a file is valid NRML; where it is not, in the engine's words, without the file's own path.

    Args:
        folder_fd: of the folder that was sent.
        name: of the file in it.
        folder: for files of this view.
    """
    path = str(_at_hand(folder_fd, folder) / name)
    try:
        nrml.to_python(path)
    except ExpatError as exc:
        return _verdict(str(exc).replace(path, "the file"), exc.lineno)
    except Exception as exc:  # noqa: BLE001 - told to the person who asks
        words = exc.args[0] if exc.args else exc
        words = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
        if not isinstance(words, str):
            return _verdict(str(words), None)
        found = _LINE.search(words)
        words = words.replace(path, "the file").partition(", line")[0]
        return _verdict(words, int(found[1]) if found else None)
    return _verdict(None, None)


def job(folder_fd: int, name: str, folder: str) -> dict[str, Any]:
    """Whether a calculation could begin: its file and all its inputs are read, as before a run.

    Args:
        folder_fd: of the folder that was sent, which has to hold all its inputs.
        name: of the job file in it.
        folder: for files of this view.
    """
    root = _at_hand(folder_fd, folder)
    return _judged(str(root / name), str(root))


def own_job(_driver: DriverProcess, job_ini: str) -> dict[str, Any]:
    """As `job`, for a person's own files.

    Args:
        job_ini: path of the job file.
    """
    return _judged(job_ini, "")


def _at_hand(folder_fd: int, folder: str) -> Path:
    """What was sent, where this account can read it."""
    if not inputs.is_foreign(folder_fd):
        return Path(f"/proc/self/fd/{folder_fd}").resolve()
    target = Path(folder, "sent")
    target.mkdir()
    inputs.copy(folder_fd, target)
    return target


def _judged(job_ini: str, root: str) -> dict[str, Any]:
    """Read inputs as before a run.

    Args:
        job_ini: path of the job file.
        root: folder that has to hold all its inputs; empty for the person's own files.
    """

    def check_files(oqparam: Any) -> None:
        if root:
            starts.check_inside(oqparam._input_files, Path(root))  # noqa: SLF001 - it has no other name
        logging.root.setLevel(logging.ERROR)

    try:
        reading.read(job_ini, check_files=check_files)
    except Exception as exc:  # noqa: BLE001 - told to the person who asks
        return _verdict(_without_folder(stops.one_line(exc), root), None)
    return _verdict(None, None)


def _without_folder(words: str, root: str) -> str:
    return words.replace(f"{root}/", "") if root else words


def _verdict(message: str | None, line: int | None) -> dict[str, Any]:
    return {"error_msg": message, "error_line": line, "valid": message is None}
