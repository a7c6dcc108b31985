"""A driver that runs jobs of an earlier one again: `resume ID... [--by-itself] [--anyway]`.

Refuses what would not be right, removes what the first try left, and lets the engine run the jobs again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pickle
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quakegrid import errors
from quakegrid.engine import versions
from quakegrid.engine.driver import exports, stops
from quakegrid.engine.replay import pins
from quakegrid.engine.replay.job_journal import JobJournal
from quakegrid.engine.replay.ordered import JournalContent
from quakegrid.jobs.states import JobState
from quakegrid.journals import files
from quakegrid.journals.files import JournalFile
from quakegrid.journals.records import RecordKind
from quakegrid.settings.config import Settings

if TYPE_CHECKING:
    from quakegrid.engine.driver.process import DriverProcess

COMMAND = "resume"
# Somebody ends a job whose driver has died: the broker at once, the dbserver when its hold is over.
END_PATIENCE_S = 120.0
POLL_S = 0.1
LOCK_PATIENCE_S = 20.0
_ENDED_BADLY = (JobState.FAILED, JobState.ABORTED)
_COMPLETE = (JobState.COMPLETE, JobState.SHARED)


def request_of(request: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The request for a driver that resumes a job, with folder and environment of the first one.

    Raises:
        QuakeGridError: there is no journal of it that can be read.
    """
    asked = _parse(request["argv"])
    try:
        origin = _origin(asked.job_ids, files.own_folder(settings.state_dir, request["person"]))
    except errors.NotFoundError:
        if asked.by_itself:  # `main` judges it; the request is the first one, and has both
            return request
        raise
    return request | {"cwd": origin["cwd"], "environ": origin["environ"]}


def main(argv: Sequence[str], driver: DriverProcess) -> None:
    """Run the jobs of an earlier driver again, those that are not complete.

    Args:
        argv: `resume ID`, with `--anyway` to compute all of it anew if its journal cannot be used; or
            `resume ID... --by-itself` with all jobs of a request, if no person asked for it.
        driver: this process.
    Raises:
        QuakeGridError: it would not be right, and why. Then nothing has changed.
    """
    from openquake.engine import engine  # noqa: PLC0415 - after the seams

    asked = _parse(argv)
    if asked.by_itself and _are_complete(asked.job_ids, driver):  # a driver that died after its work
        return
    origin = _origin(asked.job_ids, driver.journals.folder())
    with contextlib.ExitStack() as undo:
        again = _open(origin, driver, undo, LOCK_PATIENCE_S if asked.by_itself else 0.0)
        try:
            for each in again:
                _check_state(each, driver, is_by_itself=asked.by_itself)
            changes = [_changes(each, driver, asked) for each in again]
        except errors.QuakeGridError as exc:
            if asked.by_itself:  # nobody may be here to read it
                driver.database.log(again[0].job.calc_id, f"not resumed: {exc}", "WARNING")
            raise
        for each, changed in zip(again, changes, strict=True):
            begin(each, driver, changed, is_by_itself=asked.by_itself)
        undo.pop_all()
    options = origin["options"]
    driver.weight, driver.cores_per_worker = options["weight"], options["cores_per_worker"]
    jobs, first_id = [each.job for each in again], origin["job_ids"][0]
    is_first = jobs[0].calc_id == first_id
    versions.call(
        engine.run_jobs, jobs, notify_to=options["notify_to"], precalc=options["precalc"] and is_first
    )


@dataclass(frozen=True, slots=True)
class Again:
    """A job that runs again: upstream's context of it, its journal, and its row."""

    job: Any
    journal: JobJournal
    row: Any


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="quakegrid resume")
    parser.add_argument("command")
    parser.add_argument("job_ids", type=int, nargs="+")
    parser.add_argument("--by-itself", action="store_true")
    parser.add_argument("--anyway", action="store_true")
    return parser.parse_args(argv)


def _are_complete(job_ids: Sequence[int], driver: DriverProcess) -> bool:
    """Whether nothing is left of a request; takes note of those jobs whose end is still to be told."""
    rows = [driver.database.call("get_job", job_id) for job_id in job_ids]
    complete = [row.id for row in rows if row is not None and row.status in _COMPLETE]
    driver.database.earlier_ids.extend(complete)
    return len(complete) == len(job_ids)


def _origin(job_ids: Sequence[int], folder: Path) -> dict[str, Any]:
    """What the first driver was asked for, by the journal of one of its jobs: complete ones have none.

    Raises:
        NotFoundError: there is none of them here.
    """
    for job_id in job_ids:
        try:
            content = JournalContent(files.content_of(files.path_of(folder, job_id)))
        except OSError:
            continue
        if content.request is not None:
            found = json.loads(bytes(content.request.record.frames[0]))
            return {**found, "contexts": bytes(content.request.record.frames[1])}
    raise errors.NotFoundError(
        f"there is no journal of job {job_ids[-1]} here, so it cannot be resumed: it is complete, another "
        f"person's, ended {files.KEEP_DAYS} days ago, or ran on another machine or without a journal"
    )


def _open(
    origin: Mapping[str, Any], driver: DriverProcess, undo: contextlib.ExitStack, patience_s: float
) -> list[Again]:
    """Lock the journals of the jobs that are not complete.

    Raises:
        StateError: a driver runs them.
    """
    folder, again = driver.journals.folder(), []
    first_id = origin["job_ids"][0]
    for job in pickle.loads(origin["contexts"]):  # noqa: S301 - this user's own file
        if origin["options"]["precalc"] and job.calc_id != first_id:
            job.params["hazard_calculation_id"] = first_id  # as upstream's `run_jobs` does
        row = driver.database.call("get_job", job.calc_id)
        if row is not None and row.status in _COMPLETE:
            continue
        try:
            file = JournalFile(files.path_of(folder, job.calc_id), patience_s=patience_s)
        except errors.StateError:
            raise errors.StateError(
                f"job {job.calc_id} is at work: its driver runs; to follow it: quakegrid attach {job.calc_id}"
            ) from None
        undo.callback(file.close)
        again.append(Again(job, driver.journals.take_over(job.calc_id, file), row))
    if not again:
        raise errors.StateError("it is complete")
    return again


def _check_state(each: Again, driver: DriverProcess, *, is_by_itself: bool) -> None:
    """Wait until the end of the first try is known, and refuse what must not be resumed.

    Raises:
        NotFoundError: the job was deleted.
        StateError: it is in a state in which it cannot be, or was ended by a person.
    """
    job_id, end_s = each.job.calc_id, time.monotonic() + END_PATIENCE_S
    while True:
        job = driver.database.client.jobs.get_job(job_id)
        if job.state in _ENDED_BADLY or job.state is JobState.CREATED:
            break
        is_over = time.monotonic() > end_s
        if is_over and job.state is JobState.SUBMITTED:
            break  # its driver died before it held the job, or the dbserver says no
        if job.state.is_final or is_over:
            raise errors.StateError(f"job {job_id} is {job.state}; it cannot be resumed")
        time.sleep(POLL_S)
    if is_by_itself:
        _check_by_itself(each, job.state, job.state_reason, driver.settings.max_resumes)


def _check_by_itself(each: Again, state: JobState, reason: str, max_resumes: int) -> None:
    """Refuse to go on by itself after an abort, and where it dies again and again."""
    job_id, count = each.job.calc_id, each.journal.content.vain_count
    if state is JobState.ABORTED and reason not in stops.SIGNAL_WORDS.values():
        raise errors.StateError(f"job {job_id} was aborted: {reason}")
    if count >= max_resumes:
        outcomes = each.journal.replayed_count
        raise errors.StateError(
            f"job {job_id} is not started again: its driver died {count + 1} times at the same place, after "
            f"{outcomes} outcomes of tasks; when the cause is gone: quakegrid resume {job_id}"
        )


def _changes(each: Again, driver: DriverProcess, asked: argparse.Namespace) -> list[str]:
    """What keeps the journal from being used; all is computed anew then.

    A job that did not come to run rests on nothing.

    Raises:
        StateError: something has changed, and what; somebody must say that it shall run all the same.
    """
    job_id = each.job.calc_id
    if each.journal.content.pins is None:
        return []
    try:
        oqparam = each.job.get_oqparam()
    except Exception as exc:
        raise errors.StateError(f"job {job_id} cannot be resumed: {stops.one_line(exc)}") from exc
    changed = driver.journals.differences(
        each.journal, oqparam, pins.parent_job(driver.database.call, oqparam)
    )
    # After an upgrade all is computed anew by itself. Other inputs are for a person to decide.
    is_model = any(words.startswith(("the input", "job")) for words in changed)
    if changed and not (asked.anyway or (asked.by_itself and not is_model)):
        raise errors.StateError(
            f"job {job_id} cannot be resumed: {'; '.join(changed)}. With --anyway all of it is computed anew"
        )
    return changed


def begin(each: Again, driver: DriverProcess, changed: Sequence[str], *, is_by_itself: bool) -> None:
    """Make the job one that waits for its turn, and remove what the first try left.

    Nothing is removed before the dbserver has agreed. What goes wrong after that ends the job.

    Args:
        each: the job.
        driver: this process.
        changed: what keeps its journal from being used.
        is_by_itself: whether no person asked for it.
    """
    job_id, journal = each.job.calc_id, each.journal
    said = json.dumps({"time_s": time.time(), "by_itself": is_by_itself}).encode()
    try:
        journal.write(RecordKind.RESUMED, [said], int(is_by_itself))
    except OSError as exc:
        raise errors.StateError(
            f"job {job_id} cannot be resumed, since its journal cannot be written: {exc.strerror or exc}"
        ) from None
    count = journal.replayed_count if journal.content.pins and not changed else 0
    driver.database.client.jobs.reopen(job_id, count)
    driver.database.take_up(job_id, each.row.calculation_mode, each.row.description)
    remove_leftovers(Path(f"{each.row.ds_calc_dir}.hdf5"))
    if journal.content.pins is not None:  # it came to run
        exports.remove_staging(Path(each.job.get_oqparam().export_dir), job_id)
    if changed:
        journal.forget_outcomes()
        driver.database.log(job_id, f"nothing of its journal is used: {'; '.join(changed)}", "WARNING")
    why = "its driver has died" if is_by_itself else "somebody asked for it"
    words = f"resumed, since {why}; its journal has {count} outcomes of tasks"
    driver.database.log(job_id, words, "WARNING")


def remove_leftovers(datastore: Path) -> None:
    """Remove the files of a first try, which the engine would read, or refuse to write.

    Raises:
        StateError: one cannot be removed.
    """
    store = datastore.with_suffix("")
    try:
        for path in (datastore, store.with_name(f"{store.name}_tmp.hdf5")):
            path.unlink(missing_ok=True)
        if store.is_dir():
            shutil.rmtree(store)
    except OSError as exc:
        raise errors.StateError(f"what the first try left cannot be removed: {exc}") from None
