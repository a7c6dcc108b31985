"""A module for `[agent] preload` that makes all workers blind: none proves that it shares its driver's files.

Opening a datastore there by its path, as on a node that shares the folder, is an error.
"""

from __future__ import annotations

import sys
from typing import Any

import h5py

from quakegrid.files import proofs
from quakegrid.files.lane_doors import OfThisWorker


def _shared_folders(_proofs: proofs.Proofs) -> tuple[str, ...]:
    return ()


def _refusing(original: Any) -> Any:
    def open_by_path(name: bytes, *args: Any, **options: Any) -> Any:
        if OfThisWorker.door is not None and b"/oqdata/" in name and b"fileobj" not in name:
            driver = (options.get("fapl") or args[1]).get_driver()
            if driver == h5py.h5fd.SEC2:
                print(f"blind worker opened {name!r} by its path", file=sys.stderr, flush=True)
                raise OSError(f"a blind worker has opened {name!r} by its path")
        return original(name, *args, **options)

    return open_by_path


proofs.Proofs.shared_folders = _shared_folders  # type: ignore[method-assign]
h5py.h5f.open = _refusing(h5py.h5f.open)
