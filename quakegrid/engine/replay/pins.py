"""What must be equal to use the outcomes of an earlier run, and how it differs, in words.

A task's arguments do not show it all: most of its input it reads from files that the master wrote.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from quakegrid.engine.versions import core_count

Pins = dict[str, dict[str, str]]
# Sections of the configuration that say where services and folders are, and nothing of results.
_OF_PLACES = frozenset({"dbserver", "webapi", "zworkers", "directory", "webui"})
_CHUNK_BYTES = 1 << 20
NO_FILE = "<in-memory>"
_WORDS = {
    "input": "the input {name} has changed",
    "version": "{name} is {now}, and it was {then}",
    "setting": "the setting {name} is {now}, and it was {then}",
    "parent": "job {name}, which it starts from, has changed",
}


def of(
    oqparam: Any,
    versions: Mapping[str, str],
    parent: Mapping[str, str],
    sections: Mapping[str, Mapping[str, Any]],
) -> Pins:
    """What a calculation rests on, now.

    Args:
        oqparam: its parameters.
        versions: by name, of the engine, numpy, QuakeGrid and their code.
        parent: the job that it starts from, by its id: its size and time.
        sections: of the engine's configuration.
    """
    files = sorted({str(path) for path in oqparam._input_files})  # noqa: SLF001 - it has no other name
    return {
        "input": {path: _digest(path) for path in files if path != NO_FILE},
        "version": {
            **versions,
            "hash seed": str(hash("quakegrid")),
            "number of cores": str(core_count()),
        },
        "setting": _settings(sections),
        "parent": dict(parent),
    }


def differences(then: Pins, now: Pins) -> list[str]:
    """What differs, a sentence each."""
    found = []
    for kind, words in _WORDS.items():
        before, after = then.get(kind, {}), now.get(kind, {})
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                values = {"then": before.get(name, "not there"), "now": after.get(name, "not there")}
                found.append(words.format(name=name, **values))
    return found


def encode(pins: Pins) -> bytes:
    """As a journal has them."""
    return json.dumps(pins).encode()


def decode(data: bytes | memoryview) -> Pins:
    """From a journal."""
    found: Pins = json.loads(bytes(data))
    return found


def parent_job(dbcmd: Callable[..., Any], oqparam: Any) -> Any:
    """The job that a calculation starts from; None if there is none.

    Args:
        dbcmd: calls the database, as the engine does.
        oqparam: the calculation's parameters.
    """
    parent_id = oqparam.hazard_calculation_id
    return dbcmd("get_job", parent_id) if isinstance(parent_id, int) else None


def parent_of(job: Any) -> dict[str, str]:
    """What is known of the job that a calculation starts from; empty if there is none."""
    if job is None:
        return {}
    try:
        found = Path(f"{job.ds_calc_dir}.hdf5").stat()
    except OSError:
        return {str(job.id): "no datastore"}
    return {str(job.id): f"{found.st_size} bytes of {found.st_mtime_ns}"}


def _settings(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"[{section}] {key}": str(value)
        for section, values in sections.items()
        if section not in _OF_PLACES
        for key, value in values.items()
    }


def _digest(path: str) -> str:
    """The hash of a file's content; a word if it cannot be read."""
    state = xxhash.xxh3_128()
    try:
        with Path(path).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                state.update(chunk)
    except OSError as exc:
        return exc.strerror or "unreadable"
    return state.hexdigest()
