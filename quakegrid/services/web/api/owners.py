"""Whose a calculation is, where a route comes upon it beside the table of routes.

People see the results of their own and of shared ones. All rows and logs are for everybody, as the dbserver
has it.
"""

from __future__ import annotations

from quakegrid.errors import NotAllowedError
from quakegrid.jobs.states import JobState
from quakegrid.services.web.backends import Backends
from quakegrid.services.web.callers import Caller
from quakegrid.services.web.persons import whose
from quakegrid.services.web.persons.whose import Whose

SHARED = JobState.SHARED.value


async def reader_of(backends: Backends, caller: Caller, job_id: int) -> Whose:
    """As whom the results of a calculation are read for somebody: as its owner.

    Modes of files do not decide. Files of another account than this service's are closed to others until
    their owner shares the calculation, whatever else people may see here.

    Raises:
        NotAllowedError: it is another person's and not shared, and is not the caller's to look after.
        NotFoundError: there is no such calculation.
    """
    row = await backends.engine_call("calc_info", job_id)
    owner: str = row["user_name"]
    reader = whose.of(owner, caller.name)
    is_open = owner == caller.name or row["status"] == SHARED or caller.is_staff
    if reader.person and not is_open:
        raise NotAllowedError(
            f"job {job_id} belongs to {owner}; you are {caller.name} and may not see its results until "
            f"{owner} shares it"
        )
    return reader


def check_care(caller: Caller, does: str) -> None:
    """Refuse what concerns the calculations or the files of all.

    Raises:
        NotAllowedError: the caller is neither an operator nor an admin.
    """
    if not caller.is_staff:
        raise NotAllowedError(
            f"you are {caller} and may not {does}: that is for whoever looks after the cluster"
        )
