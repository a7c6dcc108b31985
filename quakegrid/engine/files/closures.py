"""Which files belong to a job: its datastore, those of the calculations behind it, and its source models.

The chain of calculations is read from the datastores: the database does not know it yet when a job that is
given as `--hc job.ini` begins its first Starmap.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from openquake.baselib import hdf5
from openquake.commonlib import datastore
from openquake.hazardlib import logictree

from quakegrid.engine import versions

# A chain of calculations is two or three long.
MOST_PARENTS = 20

# The datastore of a calculation, without its suffix, as the database has it; empty if it has not.
FindDatastore = Callable[[int], str]


def parents(h5: Any, find: FindDatastore) -> Iterator[str]:
    """The datastores of the calculations behind a job, nearest first; files that cannot be read are left out.

    Args:
        h5: the job's own, open.
        find: looks up a calculation.
    """
    folder = os.path.dirname(h5.filename)  # noqa: PTH120 - a text, as the engine has it
    calc_id = datastore.read_hc_id(h5)
    for _ in range(MOST_PARENTS):
        match calc_id:
            case int():
                path = f"{find(calc_id) or f'{folder}/calc_{calc_id}'}.hdf5"
            case str() if calc_id.startswith("/"):  # a calculation may be named by its file
                path = calc_id
            case _:
                return
        yield path
        try:
            with hdf5.File(path, "r") as parent:
                calc_id = datastore.read_hc_id(parent)
        except OSError:
            return


def find_datastore(calc_id: int) -> str:
    """The datastore of a calculation, asked for as the engine does."""
    job = datastore.dbcmd("get_job", calc_id)
    return "" if job is None else str(job.ds_calc_dir)


def named_inputs(h5: Any) -> dict[str, Any]:
    """The inputs that a job's parameters name; none if it has not saved them yet."""
    try:
        return dict(versions.parameters(h5).inputs)
    except (KeyError, AttributeError):
        return {}


def inputs(named: dict[str, Any]) -> set[str]:
    """All input files that tasks may read: those that parameters name, and models that logic trees name."""
    found = {str(Path(path)) for path in _texts(named) if path.startswith("/")}
    for path in _texts(named.get("source_model_logic_tree", "")):
        # What is no logic tree, the calculation itself will complain of.
        with contextlib.suppress(Exception):
            info = logictree.collect_info(path)
            found.update(info.smpaths, info.h5paths)
    return found


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple | set):
        for each in value:
            yield from _texts(each)
