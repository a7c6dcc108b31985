"""What each call of the engine touches, and so whether a calculation may make it. Pure.

A calculation sees all jobs, as its person does, and changes only jobs of this person. What would change the
jobs of several people is for operators. Every action and every SQL text that writes has a row here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from quakegrid import errors
from quakegrid.access.principals import Principal, PrincipalRole


class Touch(Enum):
    """What a call touches."""

    # Nothing, or something of no person's.
    NOTHING = auto()
    # It only reads.
    READS = auto()
    # It changes the job that an argument names.
    JOB = auto()
    # It changes the jobs that an argument lists.
    JOBS = auto()
    # It changes the second job of a pair.
    CHILD = auto()
    # It makes a job, which belongs to who calls.
    NEW_JOB = auto()
    # It changes all jobs of the person that an argument names.
    PERSON = auto()
    # It changes jobs, or what belongs to all, whosever they are.
    EVERYTHING = auto()


@dataclass(frozen=True, slots=True)
class Effect:
    """What a call does.

    Args:
        touch: what it touches.
        place: of the argument that names it.
        user_place: of the argument that tells who asks; None if there is none.
    """

    touch: Touch
    place: int = 0
    user_place: int | None = None


_NOTHING, _READS = Effect(Touch.NOTHING), Effect(Touch.READS)
_JOB, _EVERYTHING = Effect(Touch.JOB), Effect(Touch.EVERYTHING)
READING_SQL = _READS
VACUUM = _EVERYTHING

OF_ACTIONS: dict[str, Effect] = {
    # the database as such
    "fetch": _READS,
    "getpid": _NOTHING,
    "get_path": _NOTHING,
    "get_dbpath": _NOTHING,
    "db_version": _READS,
    "check_outdated": _NOTHING,
    "upgrade_db": _NOTHING,
    "what_if_I_upgrade": _READS,
    # jobs
    "get_job": _READS,
    "get_calc_ids": _READS,
    "calc_info": _READS,
    "list_calculations": _READS,
    "get_calcs": _READS,
    "get_job_from_checksum": _READS,
    "get_checksum_from_job": _READS,
    "get_executing_jobs": _READS,
    "get_longest_jobs": _READS,
    "find": _READS,
    "create_job": Effect(Touch.NEW_JOB, user_place=3),
    "import_job": Effect(Touch.NEW_JOB, user_place=3),
    "update_job": _JOB,
    "finish": _JOB,
    "set_status": _JOB,
    "delete_uncompleted_calculations": Effect(Touch.PERSON),
    "del_calc": Effect(Touch.JOB, user_place=1),
    "share_job": _JOB,
    "update_job_checksum": _JOB,
    "update_parent_child": Effect(Touch.CHILD),
    # It also deletes workflows of others that are not kept.
    "keep": _EVERYTHING,
    # outputs and logs
    "get_outputs": _READS,
    "list_outputs": _READS,
    "get_output": _READS,
    "get_result": _READS,
    "get_results": _READS,
    "create_outputs": _JOB,
    "log": _JOB,
    "get_log": _READS,
    "get_log_slice": _READS,
    "get_log_size": _READS,
    "get_traceback": _READS,
    "get_weight": _READS,
    # tags
    "list_tags": _READS,
    "get_preferred_job_for_tag": _READS,
    "create_tag": _NOTHING,
    "delete_tag": _EVERYTHING,
    "add_tag_to_job": _JOB,
    "remove_tag_from_job": _JOB,
    "set_preferred_job_for_tag": _JOB,
    "unset_preferred_job_for_tag": _EVERYTHING,
}
# SQL that writes, word by word: the engine's, and the web service's when it has removed files.
OF_SQL: dict[str, Effect] = {
    "DELETE FROM quakegrid_left_file WHERE path IN (?X)": _EVERYTHING,
    "UPDATE job SET ds_calc_dir = ?x WHERE id=?x": Effect(Touch.JOB, 1),
    "UPDATE job SET hazard_calculation_id=?x WHERE id=?x": Effect(Touch.JOB, 1),
    "DELETE FROM job WHERE calculation_mode='workflow' AND not relevant": _EVERYTHING,
    "DELETE FROM job WHERE id in (?X)": Effect(Touch.JOBS),
}
_OWNER_COLUMN = "user_name"
# Each is looked up, in the event loop.
MOST_JOBS = 1000
LONGEST_ID = 20


def jobs_of(effect: Effect, args: Sequence[Any]) -> list[int]:
    """The jobs that a call changes.

    Raises:
        NotAllowedError: an argument names them so that nobody can tell which they are.
    """
    match effect.touch:
        case Touch.JOB:
            return [_job_id(_argument(args, effect.place))]
        case Touch.CHILD:
            return [_job_id(_argument(_listed(_argument(args, effect.place)), 1))]
        case Touch.JOBS:
            return list(map(_job_id, _listed(_argument(args, effect.place))))
        case _:
            return []


def check(
    principal: Principal, action: str, effect: Effect, args: list[Any], check_job: Callable[[int], object]
) -> None:
    """Refuse a call that is not a calculation's, and put its person where a call tells who asks.

    Args:
        principal: who calls.
        action: the name of the action, or SQL, for messages.
        effect: of the call.
        args: of the call, changed in place.
        check_job: refuses a job that is not the principal's.
    Raises:
        NotAllowedError: the call would change what is not the caller's.
    """
    if principal.role is PrincipalRole.SERVICE:
        return
    if effect.touch is Touch.EVERYTHING:
        raise errors.NotAllowedError(
            f"{action} changes what belongs to others; you are {principal} and may not do that: it is for "
            "operators and admins"
        )
    for job_id in jobs_of(effect, args):
        check_job(job_id)
    if effect.touch is Touch.PERSON and _argument(args, effect.place) != principal.person:
        raise errors.NotAllowedError(
            f"{action} is for one's own jobs; you are {principal} and may not do that to others"
        )
    if effect.user_place is not None and len(args) > effect.user_place:
        args[effect.user_place] = principal.person
    if effect.touch is Touch.JOB:
        _check_new_owner(principal, args)


def _check_new_owner(principal: Principal, args: Sequence[Any]) -> None:
    """Refuse to give a job away by one of its columns."""
    for fields in args:
        if isinstance(fields, dict) and fields.get(_OWNER_COLUMN, principal.person) != principal.person:
            raise errors.NotAllowedError(f"you are {principal} and may not give a job to somebody else")


def _argument(args: Sequence[Any], place: int) -> Any:
    if len(args) <= place:
        raise errors.NotAllowedError("the call does not say which job it is about")
    return args[place]


def _listed(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple) or len(value) > MOST_JOBS:
        raise errors.NotAllowedError(f"the call does not list jobs by their ids, at most {MOST_JOBS}")
    return value


def _job_id(value: Any) -> int:
    """The id of one job, whatever SQLite would take for one."""
    is_text = isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < LONGEST_ID
    if (type(value) is int or is_text) and int(value) >= 0:
        return int(value)
    raise errors.NotAllowedError(f"{str(value)[:100]!r} is no id of a job; name the job by its id")
