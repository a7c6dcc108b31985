"""What is only for whoever looks after the cluster, wherever a route comes upon it."""

from __future__ import annotations

from quakegrid.errors import NotAllowedError
from services.web.callers import Caller


def check_care(caller: Caller, does: str) -> None:
    """Refuse what concerns the calculations or the files of all.

    Raises:
        NotAllowedError: the caller is neither an operator nor an admin.
    """
    if not caller.is_staff:
        raise NotAllowedError(
            f"you are {caller} and may not {does}: that is for whoever looks after the cluster"
        )
