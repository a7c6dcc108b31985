"""People change their own calculations over the web."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from quakegrid.errors import NotAllowedError, NotFoundError
from services.web.api import owners
from services.web.callers import Caller, of_account

ANNA, BEN = Caller(54321, "anna"), Caller(54322, "ben")


class FakeBackends:
    """Knows one job, which is anna's."""

    async def engine_call(self, action: str, job_id: int) -> dict[str, Any]:
        """What the dbserver says of a job."""
        assert action == "calc_info"
        if job_id != 7:
            raise NotFoundError(f"there is no job {job_id}")
        return {"user_name": "anna"}


def check(caller: Caller, job_id: int = 7) -> None:
    """Ask whether somebody may change a job."""
    asyncio.run(owners.check_own(FakeBackends(), caller, job_id))  # type: ignore[arg-type]


def test_owner_and_those_who_look_after_the_cluster_change_a_job() -> None:
    """Root, and the user of the services, are not asked whose it is."""
    check(ANNA)
    check(of_account(0, "root"), 8)
    check(of_account(os.geteuid(), "service"), 8)
    owners.check_care(of_account(os.geteuid(), "service"), "delete tags")


def test_another_person_is_refused_with_words() -> None:
    """Whose it is, and who one is."""
    with pytest.raises(NotAllowedError, match="job 7 belongs to anna; you are ben and may not change it"):
        check(BEN)
    with pytest.raises(NotFoundError):
        check(BEN, 8)
    with pytest.raises(NotAllowedError, match="you are ben and may not delete tags"):
        owners.check_care(BEN, "delete tags")
