"""The one table of routes: what each is about, and who may ask for it. Pure.

An address that the table does not have is for operators, and is taken for one that changes something if it
has another method than GET. A test holds that the table has every route of the application.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto

from quakegrid.services.web.callers import Caller
from quakegrid.settings.web.access import WebMode


class Need(Enum):
    """What a route asks of a caller."""

    # Nothing: it is open before a login.
    NOTHING = auto()
    # To be somebody who is let in.
    PERSON = auto()
    # To see the calculation of the address, or the one of the output.
    SEE_JOB = auto()
    SEE_OUTPUT = auto()
    # To be its owner, an operator or an admin.
    OWN_JOB = auto()
    # To look after the cluster: an operator or an admin.
    CARE = auto()


@dataclass(frozen=True, slots=True)
class Right:
    """One row: who may ask for a route.

    Args:
        need: what it asks of a caller.
        does: what it does, as in "you may not ...".
        is_writing: whether it changes something, whatever its method is.
    """

    need: Need
    does: str
    is_writing: bool = False


_RUN = Right(Need.PERSON, "start calculations", is_writing=True)
_VALIDATE = Right(Need.PERSON, "check inputs", is_writing=True)
_ASK = Right(Need.PERSON, "ask this service")
_SEE = Right(Need.SEE_JOB, "see it")
_TAG = Right(Need.OWN_JOB, "tag it", is_writing=True)
_CHANGE = Right(Need.OWN_JOB, "change it", is_writing=True)
_OPEN = Right(Need.NOTHING, "log in")
_TAGS_OF_ALL = Right(Need.CARE, "change the tags of others", is_writing=True)
_JOB = "/v1/calc/{job_id:int}"

# By the path of the route.
TABLE: dict[str, Right] = {
    "/health": _OPEN,
    "/static": _OPEN,
    "/login": _OPEN,
    "/accounts/login/": _OPEN,
    "/accounts/logout/": _OPEN,
    "/accounts/ajax_login/": _OPEN,
    "/accounts/ajax_logout/": _OPEN,
    "/accounts/me.json": _OPEN,
    "/v1/engine_version": _ASK,
    "/engine/license": _ASK,
    "/v1/engine_latest_version": _ASK,
    "/v1/available_gsims": _ASK,
    "/v1/ini_defaults": _ASK,
    "/v1/on_same_fs": _ASK,
    "/v1/valid/": _VALIDATE,
    "/v1/calc/validate_zip": _VALIDATE,
    "/v1/calc/validate_ini": _VALIDATE,
    "/v1/calc/run": _RUN,
    "/v1/inputs/missing": _RUN,
    "/v1/inputs/{sha256}": _RUN,
    "/v1/calc/run_ini": _RUN,
    "/v1/calc/jobs_from_inis": _ASK,
    "/v1/calc/list": _ASK,
    "/v1/calc/list_tags": _ASK,
    "/v1/calc/create_tag/{tag}": Right(Need.PERSON, "make tags", is_writing=True),
    "/v1/calc/delete_tag/{tag}": _TAGS_OF_ALL,
    "/v1/calc/unset_preferred_job_for_tag/{tag}": _TAGS_OF_ALL,
    "/v1/calc/get_preferred_job_for_tag/{tag}": _ASK,
    "/v1/calc/result/{job_id:int}": Right(Need.SEE_OUTPUT, "see it"),
    _JOB: _SEE,
    f"{_JOB}/status": _SEE,
    f"{_JOB}/log/size": _SEE,
    f"{_JOB}/log/{{lines}}": _SEE,
    f"{_JOB}/traceback": _SEE,
    f"{_JOB}/results": _SEE,
    f"{_JOB}/result/list": _SEE,
    f"{_JOB}/extract/{{what:path}}": _SEE,
    f"{_JOB}/datastore": _SEE,
    f"{_JOB}/download_png/{{what:path}}": _SEE,
    f"{_JOB}/job_zip": Right(Need.OWN_JOB, "have its inputs"),
    f"{_JOB}/abort": _CHANGE,
    f"{_JOB}/remove": _CHANGE,
    f"{_JOB}/share": _CHANGE,
    f"{_JOB}/unshare": _CHANGE,
    f"{_JOB}/add_tag/{{tag}}": _TAG,
    f"{_JOB}/remove_tag/{{tag}}": _TAG,
    f"{_JOB}/set_preferred_job_for_tag/{{tag}}": _TAG,
    "/live/jobs": _ASK,
    "/live/jobs.json": _ASK,
    "/live/fleet": _ASK,
    "/live/fleet.json": _ASK,
    "/live/events": _ASK,
    "/live/events.json": _ASK,
    "/live/log/{job_id:int}": _SEE,
    "/live/tasks/{job_id:int}": _SEE,
    "/": _ASK,
    "/engine": _ASK,
    "/engine/": _ASK,
    "/engine/{job_id:int}/outputs": _ASK,
    "/calculations": _ASK,
    # The page has nothing of the calculation; what it asks for has.
    "/calculations/{job_id:int}": _ASK,
    "/calculations/{job_id:int}/tasks": _ASK,
    "/calculations/{job_id:int}/tasks.json": _SEE,
    "/calculations/{job_id:int}/parameters.json": _SEE,
    "/calculations/{job_id:int}/inputs.json": _SEE,
    "/calculations/{job_id:int}/pictures.json": _SEE,
    "/calculations/{job_id:int}/pictures/{kind}.json": _SEE,
    "/calculations/{job_id:int}/report.json": _SEE,
    "/calculations/{job_id:int}/compare/{other_id:int}": _ASK,
    # The route asks whether the other one may be seen, too.
    "/calculations/{job_id:int}/compare/{other_id:int}.json": _SEE,
    "/cluster": _ASK,
    "/cluster/health.json": Right(Need.CARE, "examine the cluster"),
    "/cluster/people.json": Right(Need.CARE, "see the credentials and the audit log of all"),
    "/cluster/rights.json": _ASK,
    "/cluster/nodes/{host}/cores": Right(Need.CARE, "set the cores of nodes", is_writing=True),
    "/cluster/nodes/{host}/{order}": Right(Need.CARE, "give orders to nodes", is_writing=True),
    "/examination": _ASK,
    "/docs": _ASK,
    "/openapi.json": _ASK,
}


def of(path: str, methods: Collection[str] | None) -> Right:
    """The row of a route.

    Args:
        path: of the route, with its fields.
        methods: of HTTP; None for any.
    """
    found = TABLE.get(path)
    if found is not None:
        return found
    return Right(Need.CARE, "do this", is_writing=methods is None or not set(methods) <= {"GET", "HEAD"})


def is_there(right: Right, mode: WebMode) -> bool:
    """Whether a service has the route in its mode; READ_ONLY has none that changes something."""
    return not (right.is_writing and mode is WebMode.READ_ONLY)


def sees_all(caller: Caller, mode: WebMode) -> bool:
    """Whether somebody sees the calculations of everybody: where people log in, operators do."""
    return mode is not WebMode.RESTRICTED or caller.is_staff


def may(caller: Caller, right: Right, mode: WebMode, *, owner: str, is_shared: bool) -> bool:
    """Whether somebody may ask for a route.

    Args:
        caller: who asks.
        right: the row of the route.
        mode: of the service.
        owner: whose the calculation is that the address names; empty if it names none, or there is none.
        is_shared: whether the owner shares it.
    """
    match right.need:
        case Need.NOTHING | Need.PERSON:
            return True
        case Need.SEE_JOB | Need.SEE_OUTPUT:
            return sees_all(caller, mode) or is_shared or owner == caller.name
        case Need.OWN_JOB:
            return caller.is_staff or owner == caller.name
        case Need.CARE:
            return caller.is_staff


def needs_owner(caller: Caller, right: Right, mode: WebMode) -> bool:
    """Whether it depends on whose the calculation is."""
    match right.need:
        case Need.SEE_JOB | Need.SEE_OUTPUT:
            return not sees_all(caller, mode)
        case Need.OWN_JOB:
            return not caller.is_staff
        case _:
            return False


def refusal(caller: Caller, right: Right, what: str = "", owner: str = "") -> str:
    """The words that tell somebody that they may not.

    Args:
        caller: who asks.
        right: the row of the route.
        what: the calculation that the address names, such as "job 7"; empty for none.
        owner: whose it is.
    """
    if right.need is Need.CARE:
        return f"you are {caller} and may not {right.does}: that is for whoever looks after the cluster"
    return (
        f"{what} belongs to {owner}; you are {caller} and may not {right.does}: that is for the owner, and "
        "for whoever looks after the cluster"
    )
