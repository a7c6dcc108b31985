"""Extracts of the plain engine: `plain_extracts.py DATASTORE FOLDER WHAT…`; says which file has which."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    """Extract all; what there is not has no file."""
    path, folder, *wanted = sys.argv[1:]
    from openquake.baselib import hdf5
    from openquake.calculators.extract import extract
    from openquake.commonlib import datastore

    found = {}
    with datastore.read(path) as store:
        for number, what in enumerate(wanted):
            target = Path(folder, f"{number}.npz")
            try:
                hdf5.save_npz(extract(store, what), str(target))
            except Exception as exc:  # noqa: BLE001 - the engine raises all kinds
                print(what, repr(exc), file=sys.stderr)
                continue
            found[what] = str(target)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
