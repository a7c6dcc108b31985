"""Compiled kernels of the engine in a process that runs as another user than its template.

Numba keeps what it has compiled in files. The template's functions look for them in a folder of the agent's
user, where nobody else may write: these files are executed. A process of a person reads them all the same,
and keeps what it compiles itself in the person's own folder. Where it can use neither it compiles again.
"""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from quakegrid.engine import attributes, this_process

# Where numba itself would put it for this person.
FOLDER = "~/.cache/numba"


def use_own_folder() -> None:
    """Let this process keep what it compiles in its person's folder, if it is not the agent's user's."""
    if not this_process.is_of_another_user():
        return
    from numba.core import caching  # noqa: PLC0415 - loaded with the engine

    file_class, locator = caching.IndexDataCacheFile, caching._CacheLocator  # noqa: SLF001 - there is no other way
    files = _TwoFolders(file_class, Path(FOLDER).expanduser())
    attributes.replace(file_class, "load", lambda shared, key: files.load(shared, key))  # noqa: PLW0108 - a bound method would not get the file
    attributes.replace(file_class, "save", lambda shared, key, data: files.save(shared, key, data))  # noqa: PLW0108 - as above
    # It would make the shared folder. The classes below it have none of their own.
    attributes.replace(locator, "ensure_cache_path", lambda _locator: None)


class _TwoFolders:
    """The files of one compiled function in the template's folder, and in the person's.

    Args:
        file_class: numba's, as it is before it is changed.
        own: the person's folder.
    """

    def __init__(self, file_class: Any, own: Path) -> None:
        self._class, self._own = file_class, own
        self._load, self._save = attributes.read(file_class, "load"), attributes.read(file_class, "save")

    def load(self, shared: Any, key: Any) -> Any:
        """What the agent's user has compiled for a function, or else the person; None if nobody has."""
        for file in (shared, self._own_file(shared)):
            with contextlib.suppress(OSError):
                found = self._load(file, key)
                if found is not None:
                    return found
        return None

    def save(self, shared: Any, key: Any, data: Any) -> None:
        """Keep what was compiled in the person's folder, if there is room."""
        with contextlib.suppress(OSError):
            self._folder(shared).mkdir(mode=0o700, parents=True, exist_ok=True)
            self._save(self._own_file(shared), key, data)

    def _folder(self, shared: Any) -> Path:
        """The person's folder for the modules that have this one of the agent's user."""
        name = hashlib.sha256(shared._cache_path.encode()).hexdigest()[:16]  # noqa: SLF001 - as above
        return self._own / f"quakegrid_{name}"

    def _own_file(self, shared: Any) -> Any:
        name = shared._index_name.removesuffix(".nbi")  # noqa: SLF001 - as above
        return self._class(str(self._folder(shared)), name, shared._source_stamp)  # noqa: SLF001 - as above
