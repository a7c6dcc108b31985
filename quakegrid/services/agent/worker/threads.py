"""Threads of the numerical libraries in a worker that has more than one core.

A worker is forked from a template in which OpenMP, OpenBLAS, MKL, numba and numexpr were told to use one
thread. Libraries that are not loaded yet obey the environment. Libraries that are loaded are told by
functions of their own. Call it before a library starts threads; those that the template loaded have none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
# The functions, by a part of the file's name. Wheels of numpy and scipy prefix those of their OpenBLAS.
LIBRARIES = ("openblas", "mkl_rt", "libgomp", "libomp", "libiomp")
SETTERS = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "MKL_Set_Num_Threads",
    "omp_set_num_threads",
)


def set_thread_count(count: int) -> None:
    """Let the numerical libraries of this process use so many threads."""
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(count)
    for path in _loaded_libraries():
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD)
        for name in SETTERS:
            with contextlib.suppress(AttributeError):  # this library does not have the function
                getattr(library, name)(count)
    _tell_numba(count)
    numexpr = sys.modules.get("numexpr")
    if numexpr is not None:
        numexpr.set_num_threads(count)


def _loaded_libraries() -> list[str]:
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace")
    files = {line.split(maxsplit=5)[5] for line in maps.splitlines() if ".so" in line}
    return sorted(path for path in files if any(part in Path(path).name for part in LIBRARIES))


def _tell_numba(count: int) -> None:
    """Set the number that numba read when it was imported. Numba's own setter can only lower that."""
    config = sys.modules.get("numba.core.config")
    parallel = sys.modules.get("numba.np.ufunc.parallel")
    if config is not None:
        config.NUMBA_NUM_THREADS = config.NUMBA_DEFAULT_NUM_THREADS = count  # type: ignore[attr-defined]
    if parallel is not None and hasattr(parallel, "gen_snt_check"):
        parallel.NUM_THREADS = count  # type: ignore[attr-defined]
        parallel.snt_check = parallel.gen_snt_check()  # type: ignore[attr-defined]
