"""Whose a calculation is: people change their own, over the web as by the command line."""

from __future__ import annotations

from quakegrid.errors import NotAllowedError
from services.web.backends import Backends
from services.web.callers import Caller


async def check_own(backends: Backends, caller: Caller, job_id: int) -> None:
    """Refuse to change a calculation of somebody else.

    Raises:
        NotAllowedError: it is another person's, and the caller does not look after the cluster.
        NotFoundError: there is no such calculation.
    """
    if looks_after_cluster(caller):
        return
    owner = (await backends.engine_call("calc_info", job_id))["user_name"]
    if owner != caller.name:
        raise NotAllowedError(
            f"job {job_id} belongs to {owner}; you are {caller.name} and may not change it: that is for the "
            "owner, and for whoever looks after the cluster"
        )


def check_care(caller: Caller, does: str) -> None:
    """Refuse what concerns the calculations of all.

    Raises:
        NotAllowedError: the caller does not look after the cluster.
    """
    if not looks_after_cluster(caller):
        raise NotAllowedError(
            f"you are {caller.name} and may not {does}: that is for whoever looks after the cluster"
        )


def looks_after_cluster(caller: Caller) -> bool:
    """Whether somebody is an operator or an admin, as root and the account of the services are."""
    return caller.is_staff
