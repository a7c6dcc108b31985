"""The engine's configuration in this process: read from `openquake.cfg` in a driver, sent to its workers.

No key of a cluster gets into the memory of a process by what is read here.
"""

from __future__ import annotations

import configparser
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import openquake.baselib
from openquake.baselib import config

from quakegrid.engine import this_process, versions
from quakegrid.machine import temporary_folders
from quakegrid.settings import config as quakegrid_config
from quakegrid.settings import keyless, reader

CONVERTERS: dict[str, Callable[[str], Any]] = {
    "limit": int,
    "soft_mem_limit": int,
    "hard_mem_limit": int,
    "port": int,
    "serialize_jobs": openquake.baselib.positiveint,
    "strict": openquake.baselib.positiveint,
}
# What the cluster's files say, without its key.
_of_cluster: dict[str, dict[str, str]] = {}
_configured = {"custom_tmp": ""}  # before `take_temporary_folder` changes it


def read(environ: Mapping[str, str]) -> None:
    """Read `openquake.cfg` as the engine does, with the cluster's files below the user's.

    A key named `code` is not executed. Files that this user may not read are passed over, as the engine does:
    what the cluster's own say, the template has read.

    Raises:
        SettingsError: a file is no configuration file.
    """
    base = Path(config.paths[0])
    ours = quakegrid_config.config_paths(this_process.settings().state_dir, environ)
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(base.read_text(encoding="utf-8"), source=str(base))
    found = [str(base)]
    if not (environ.get(quakegrid_config.ONLY_CONFIG) and environ.get("OQ_CONFIG_FILE")):
        parser.read_dict(_of_cluster)
    for path in ours:
        try:
            parser.read_string(keyless.read_text(path), source=str(path))
        except OSError:
            continue
        except configparser.Error as exc:
            raise reader.invalid(path, exc) from None
        found.append(str(path))
    config.paths[:] = [str(base), *map(str, ours)]
    config.found = found
    _take(parser)
    _adapt()


def read_in_template(paths: Iterable[Path]) -> None:
    """Read the cluster's files, which have no key, for this template and the drivers that it forks.

    Args:
        paths: of the template's settings.
    """
    _of_cluster.clear()
    _of_cluster.update({name: dict(section) for name, section in keyless.merge(paths).items()})
    read(os.environ)


def take_over(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Put the configuration of a driver, as `exported` returned it there, in place of this process's own."""
    config.clear()
    for name, section in sections.items():
        config[name] = openquake.baselib.DotDict(section)
    _adapt()


def exported() -> dict[str, dict[str, Any]]:
    """The configuration of this process for its workers.

    Workers make temporary folders of their own.
    """
    sections = {name: dict(section) for name, section in config.items()}
    sections["directory"]["custom_tmp"] = _configured["custom_tmp"]
    return sections


def take_temporary_folder() -> None:
    """Put this process's temporary files where the agent finds and removes them when it has ended."""
    try:
        folder = temporary_folders.make(this_process.settings().state_dir)
    except OSError as exc:
        print(f"temporary files will stay in {tempfile.gettempdir()}: {exc}", file=sys.stderr)
        return
    if not versions.ARE_RATES_IN_CUSTOM_TMP:
        config.directory.custom_tmp = str(folder)  # upstream asks for it beside `tempfile`


def extend_path(python_path: str) -> None:
    """Import from the caller's PYTHONPATH too, as a fresh interpreter would: models of the user's own."""
    sys.path[:0] = [str(Path(item).absolute()) for item in python_path.split(os.pathsep) if item]


def _take(parser: configparser.ConfigParser) -> None:
    """Put what was read in place of the engine's configuration, as its own `config.read` does.

    Raises:
        ValueError: a value cannot be converted.
    """
    config.clear()
    for name in parser.sections():
        section = config[name] = openquake.baselib.DotDict(parser.items(name))
        for key, value in section.items():
            try:
                section[key] = CONVERTERS[key](value) if key in CONVERTERS else value
            except ValueError as exc:
                raise ValueError(f"{exc} for {key} in {config.found[-1]}") from None
        section.pop(keyless.KEY, None)


def _adapt() -> None:
    _configured["custom_tmp"] = config.directory.custom_tmp
    config.dbserver.receiver_host = quakegrid_config.LOOPBACK  # results come over the lane
    config.distribution.oq_distribute = "zmq"
    if config.directory.custom_tmp:
        os.environ["TMPDIR"] = config.directory.custom_tmp
    if versions.ARE_RATES_IN_CUSTOM_TMP:
        config.directory.custom_tmp = ""
    tempfile.tempdir = None
