"""Which files belong to the jobs of a session, by their real paths; all others are refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

_SUFFIX = ".hdf5"


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files of jobs.

    Args:
        datastores: of the jobs and of the calculations that they are made from.
        inputs: that the jobs name: source models.
    """

    datastores: frozenset[str] = frozenset()
    inputs: frozenset[str] = field(default=frozenset(), repr=False)

    def has(self, path: str) -> bool:
        """Whether a file belongs to the jobs.

        Beside a datastore these are its temporary one and the files in the folder of its name; beside an
        input the HDF5 file of its name.

        Args:
            path: absolute, without symbolic links.
        """
        if path in self.datastores or path in self.inputs:
            return True
        if not path.endswith(_SUFFIX):
            return False
        stem = path.removesuffix(_SUFFIX)
        return (
            f"{stem.removesuffix('_tmp')}{_SUFFIX}" in self.datastores
            or f"{PurePosixPath(path).parent}{_SUFFIX}" in self.datastores
            or any(f"{stem}{suffix}" in self.inputs for suffix in (".xml", ".nrml"))
        )

    def extended(self, datastores: Iterable[str], inputs: Iterable[str] = ()) -> JobPaths:
        """These files and more."""
        return JobPaths(self.datastores.union(datastores), self.inputs.union(inputs))


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of the folders, or in one."""
    whole = f"{path}/"
    return any(whole.startswith(f"{folder.rstrip('/')}/") for folder in folders)
