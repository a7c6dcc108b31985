"""What differs between the engines that QuakeGrid knows, 3.23 to 3.26; nothing else asks for a version.

Where an engine lacks what a later one has, this module has it. Where it does what a later one does no more,
this module says so.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from openquake.baselib import __version__, parallel

SERIES = tuple(int(part) for part in __version__.split(".")[:2])
# What may be an argument of `dbcmd`: `logs.SIMPLE_TYPES`, since 3.24.
SIMPLE_TYPES = (str, int, float, bool, datetime, list, tuple, dict, type(None))
# Tasks write rates below `[directory] custom_tmp`, if there is one, and the master looks for them there: on
# another machine they would be lost. Without it they come back as results.
ARE_RATES_IN_CUSTOM_TMP = SERIES < (3, 25)
# Of `run_jobs`: calculations of one command run one after the other. 3.24 would change the environment for 1.
CONCURRENT_JOBS = None if SERIES == (3, 24) else 1
# Actions of `dbcmd` that have another name now.
RENAMED = {"add_checksum": "update_job_checksum"}


def answer_here(action: str) -> str | None:
    """What the engine's own database server answers without its database; None for all other actions."""
    return __version__ if action == "engine_version" else None


def core_count() -> int:
    """The number of cores that the engine goes by: `parallel.num_cores` since 3.24."""
    return int(getattr(parallel, "num_cores", None) or parallel.Starmap.num_cores)


def parameters(h5: Any) -> Any:
    """The parameters of a job in its open datastore; there may be several jobs in one since 3.26.

    Raises:
        KeyError: they are not saved yet.
    """
    from openquake.commonlib import datastore  # noqa: PLC0415 - imports all ground motion models

    read = getattr(datastore, "get_oq", None)
    return h5["oqparam"] if read is None else read(h5)


def calculation(value: str) -> int | str:
    """A number of a calculation, or the name of a job file or datastore: `valid.calculation` since 3.25.

    Raises:
        ValueError: it is neither.
    """
    from openquake.hazardlib import valid  # noqa: PLC0415 - imports all ground motion models

    if hasattr(valid, "calculation"):
        found: int | str = valid.calculation(value)
        return found
    try:
        return int(value)
    except ValueError:
        if value.endswith((".ini", ".hdf5")):
            return value
        raise


def call(function: Callable[..., Any], *args: object, **options: object) -> Any:
    """Call a function of the engine with those options that this version of it has."""
    known = inspect.signature(function).parameters
    return function(*args, **{name: value for name, value in options.items() if name in known})


def run_in_turn(
    func: Callable[..., Any], allargs: Iterable[Sequence[Any]], *_args: object, **_options: object
) -> None:
    """In place of upstream's `multispawn`: its processes would not know QuakeGrid."""
    for args in allargs:
        func(*args)
