"""The calculations that must give the same numbers on QuakeGrid as on the plain engine.

They are quality tests of the engine itself and come with it, below `openquake/qa_tests_data`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quakegrid import testing

# The engine splits work by this number, and some of its random samples depend on the splits.
PARAMS = {"concurrent_tasks": "4"}


@dataclass(frozen=True, slots=True)
class Case:
    """One calculation: a folder and its job files, each but the first run on top of the one before."""

    folder: str
    job_inis: tuple[str, ...] = ("job.ini",)
    is_fast: bool = False


CASES = (
    Case("classical/case_01", is_fast=True),
    Case("classical/case_66"),
    Case("classical/case_22"),
    Case("logictree/case_73"),
    Case("logictree/case_05"),
    Case("disagg/case_13", is_fast=True),
    Case("event_based/case_19"),
    Case("event_based/case_6"),
    Case("event_based_risk/case_miriam", is_fast=True),
    Case("event_based_damage/case_15"),
    Case("classical_risk/case_3"),
    Case("classical_risk/case_4", ("job_haz.ini", "job_risk.ini"), is_fast=True),
    Case("scenario_damage/case_9"),
    Case("scenario_risk/conditioned"),
    Case("classical_bcr/case_2"),
)


@dataclass(frozen=True, slots=True)
class Job:
    """One job file to run and the directory that its exports go to."""

    job_ini: Path
    export_dir: Path


def prepare(case: Case, directory: Path) -> list[Job]:
    """Copy a case out of the installed engine; its jobs, in order, each with a directory for its exports.

    Args:
        case: which one.
        directory: where inputs and exports go; must not exist.
    """
    inputs_dir = testing.copy_engine_case(case.folder, directory / "inputs")
    jobs = []
    for number, job_ini in enumerate(case.job_inis):
        export_dir = directory / f"exports{number}"
        export_dir.mkdir()
        jobs.append(Job(inputs_dir / job_ini, export_dir))
    return jobs
