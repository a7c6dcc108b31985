"""The job that a number means: a negative number counts the jobs of this user, from the newest.

Every command that takes the id of a job uses this.
"""

from __future__ import annotations

from quakegrid import errors
from quakegrid.clients.dbserver.client import DbClient
from quakegrid.jobs.filters import JobFilter
from quakegrid.jobs.values import Job

MAX_NUMBER = 2**63 - 1


def own_job_id(database: DbClient, number: int) -> int:
    """The id that a number means: the number itself, or if it is negative the id of the user's nth last job.

    Raises:
        UsageError: no job can have this id.
        NotFoundError: the user has fewer jobs.
    """
    if abs(number) > MAX_NUMBER or number == 0:
        raise errors.UsageError(f"{number} is no job; ids start at 1, and -1 is your last job")
    if number > 0:
        return number
    user = database.user_name
    found = database.jobs.list_jobs(-number, JobFilter(user_name=user))
    if -number > len(found):
        have = f"you ({user}) have {_count(len(found))}"
        oldest = f"; -{len(found)} is the oldest" if found else ""
        raise errors.NotFoundError(have + oldest)
    return found[-1].id


def own_job(database: DbClient, number: int) -> Job:
    """The job that a number means. Raises as `own_job_id`, and NotFoundError if there is no such job."""
    return database.jobs.get_job(own_job_id(database, number))


def is_own(database: DbClient, job: Job) -> bool:
    """Whether a job belongs to this user."""
    return job.user_name == database.user_name


def _count(count: int) -> str:
    return "no jobs" if not count else "1 job" if count == 1 else f"{count} jobs"
