"""The job files of the engine's QA data, in groups: a group has a job file and all that start from it.

Most job files need nothing. A few start from the hazard of another one, which their name tells. Where
the file itself names it (`hazard_calculation_id = job_ses.ini`) the engine runs that one first.
"""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.metadata
import importlib.util
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ENGINE = "openquake.engine"
PATTERN = "job*.ini"
# By the name of a job file: from which one of its folder it starts.
PARENT_NAMES = {"job_risk.ini": ("job_haz.ini", "job_hazard.ini"), "job_r.ini": ("job_h.ini",)}
# Beside inputs the folders have sources of the engine.
NOT_COPIED = ("__pycache__", "*.py", "*.pyc")


@dataclass(frozen=True, slots=True)
class JobFile:
    """One job file: its path below the QA data, and that of the one it starts from, or nothing."""

    name: str
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """Job files that are run one after the other: the first needs nothing, the others start from it."""

    jobs: tuple[JobFile, ...]

    @property
    def name(self) -> str:
        """The first of them."""
        return self.jobs[0].name


def group(names: Iterable[str]) -> list[Group]:
    """All job files in groups, in the order of their names.

    Args:
        names: of all job files.
    """
    there = sorted(names)
    parents = {name: _parent(name, frozenset(there)) for name in there}
    groups = []
    for name in there:
        if not parents[name]:
            children = [JobFile(each, name) for each in there if parents[each] == name]
            groups.append(Group((JobFile(name), *children)))
    return groups


def _parent(name: str, there: frozenset[str]) -> str:
    path = PurePosixPath(name)
    wanted = (str(path.with_name(each)) for each in PARENT_NAMES.get(path.name, ()))
    return next((each for each in wanted if each in there), "")


def choose(groups: Sequence[Group], pattern: str, shard: int = 1, shard_count: int = 1) -> list[Group]:
    """The groups of which a job file fits a pattern, or a part of them.

    Args:
        groups: all of them.
        pattern: as for files, also without what stands before or behind; words apart are alternatives.
        shard: which part, from 1.
        shard_count: how many parts of about the same size there are.
    """
    wanted = pattern.split() or ["*"]
    found = [
        each
        for each in groups
        if any(fnmatch.fnmatch(job.name, f"*{word}*") for job in each.jobs for word in wanted)
    ]
    return found[shard - 1 :: shard_count]


# --- the installed engine


def data_folder() -> Path:
    """Where the QA data of the installed engine is.

    Raises:
        FileNotFoundError: there is none.
    """
    spec = importlib.util.find_spec("openquake")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(root, "qa_tests_data")
        if folder.is_dir():
            return folder
    raise FileNotFoundError("openquake.engine is not installed, or has no qa_tests_data")


def job_files(folder: Path) -> list[str]:
    """The names of all job files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(PATTERN))


def copy(folder: Path, place: Path) -> None:
    """Copy the QA data: calculations may write beside their inputs, and have inputs in other folders."""
    shutil.copytree(folder, place, ignore=shutil.ignore_patterns(*NOT_COPIED))


def engine_version() -> str:
    """The version of the installed engine."""
    return importlib.metadata.version(ENGINE)


def stamp(folder: Path, texts: Iterable[str]) -> str:
    """A digest of all inputs, of the packages that are installed, and of some texts.

    Args:
        folder: the QA data.
        texts: what else results depend on.
    """
    digest = hashlib.sha256()
    for text in (*_packages(), *texts):
        digest.update(text.encode() + b"\n")
    for path in sorted(folder.rglob("*")):
        is_copied = not any(fnmatch.fnmatch(part, each) for part in path.parts for each in NOT_COPIED)
        if path.is_file() and is_copied:
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _packages() -> Iterator[str]:
    """Names and versions of all packages but QuakeGrid."""
    found = {(dist.name.lower(), dist.version) for dist in importlib.metadata.distributions()}
    return (f"{name} {version}" for name, version in sorted(found) if name != "quakegrid")
