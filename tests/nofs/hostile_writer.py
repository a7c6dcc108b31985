"""A driver that goes on writing its datastore, as rudely as HDF5 lets it: a program of its own.

Usage: `python -m tests.nofs.hostile_writer FOLDER`. For each line of its input it begins an epoch of
`calc_1.hdf5` there and writes a pickle: copied ranges and size of the file. Between any two lines it appends,
deletes and creates datasets, and flushes, without end.
"""

from __future__ import annotations

import pickle
import select
import sys
from pathlib import Path

import numpy as np
from openquake.baselib import hdf5

from quakegrid.engine.files import epochs
from quakegrid.files.sources import LiveSource

GROUPS = 300
SITES = 20_000


def group(number: int) -> np.ndarray:
    """What group `number` has, complete before the first epoch."""
    return np.arange(number, number + 500, dtype=np.float64)


def main() -> None:
    """Write without end."""
    path = Path(sys.argv[1], "calc_1.hdf5")
    h5 = hdf5.File(path, "w")
    for number in range(GROUPS):
        h5[f"_csm/{number}"] = group(number)
    h5["sitecol"] = np.arange(SITES)
    hdf5.create(h5, "_rates/rate", np.float32, (None,), "gzip")
    hdf5.create(h5, "gmf_data/gmv", np.float32)
    h5.close()
    h5 = hdf5.File(path, "a")
    h5.swmr_mode = True
    step = 0
    while True:
        step += 1
        if select.select([sys.stdin], [], [], 0)[0]:
            if not sys.stdin.readline():
                return
            _, source = epochs.make(h5, whole_bytes=0)
            assert isinstance(source, LiveSource)
            pickle.dump((source.copied(), source.byte_count), sys.stdout.buffer)
            sys.stdout.flush()
            source.close()
        _write_more(h5, step)


def _write_more(h5: hdf5.File, step: int) -> None:
    if "task_sent" in h5:
        del h5["task_sent"]
    h5["task_sent"] = f"{{'step': {step}}}" * (step % 50)
    h5[f"new/{step}"] = np.arange(step % 1000)
    if step > 100:
        del h5[f"new/{step - 100}"]
    for name in ("_rates/rate", "gmf_data/gmv"):
        hdf5.extend(h5[name], np.random.default_rng(step).random(2000, np.float32))
    h5.flush()


if __name__ == "__main__":
    main()
