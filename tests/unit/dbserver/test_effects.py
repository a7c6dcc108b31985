"""What calls of the engine touch: each has its row, and calculations change what is their person's only."""

from __future__ import annotations

from typing import Any

import pytest

from quakegrid import errors
from quakegrid.access import principals
from quakegrid.access.principals import Principal, PrincipalRole
from quakegrid.services.dbserver.engine import actions, effects
from quakegrid.services.dbserver.engine.effects import Touch

ANNA = Principal(PrincipalRole.DRIVER, "anna")
OF_ANNA, OF_BEN = 7, 8
DELETE = "DELETE FROM job WHERE id in (?X)"
MOVE = "UPDATE job SET ds_calc_dir = ?x WHERE id=?x"


def check_job(job_id: int) -> None:
    """Job 7 is anna's."""
    if job_id == OF_BEN:
        raise errors.NotAllowedError("job 8 belongs to ben")


def check(action: str, *args: Any, principal: Principal = ANNA) -> list[Any]:
    """The arguments that are left to a call, which passes."""
    found = list(args)
    effects.check(principal, action, actions.resolve(action, found).effect, found, check_job)
    return found


def test_every_action_says_what_it_touches() -> None:
    """Whoever adds an action decides whose it is."""
    assert effects.OF_ACTIONS.keys() == actions.NAMES


def test_every_text_of_sql_that_writes_says_what_it_touches() -> None:
    """As the actions do."""
    assert effects.OF_SQL.keys() == actions.WRITING_SQL.keys()


def test_action_that_only_reads_touches_no_job() -> None:
    """And each other one does, or touches nothing of a person's."""
    changing = {name for name, effect in effects.OF_ACTIONS.items() if effect.touch is not Touch.READS}

    assert changing - {"getpid", "get_path", "get_dbpath", "check_outdated", "upgrade_db"} == {
        name for name in actions.NAMES if actions.is_writing(name)
    }


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("get_job", [OF_BEN]),
        ("get_log", [OF_BEN]),
        ("SELECT * FROM job WHERE id=?x", [OF_BEN]),
        ("create_tag", ["t"]),
        ("update_job", [OF_ANNA, {"description": "x"}]),
        ("finish", [OF_ANNA, "complete"]),
        ("set_status", ["7", "failed"]),
        ("update_parent_child", [(OF_BEN, OF_ANNA)]),
        ("delete_uncompleted_calculations", ["anna"]),
        (DELETE, [[OF_ANNA]]),
        (MOVE, ["/x/calc_7", OF_ANNA]),
    ],
)
def test_calculation_sees_all_jobs_and_changes_those_of_its_person(action: str, args: list[Any]) -> None:
    """By id, as a number or as text."""
    assert check(action, *args) == args


@pytest.mark.parametrize(
    ("action", "args"),
    [
        ("update_job", [OF_BEN, {"description": "x"}]),
        ("update_job", [OF_ANNA, {"user_name": "ben"}]),
        ("finish", [OF_BEN, "complete"]),
        ("set_status", [-1, "failed"]),
        ("set_status", ["8", "failed"]),
        ("set_status", ["9" * 5000, "failed"]),
        ("update_job_checksum", [8.0, 1]),
        ("update_job_checksum", [True, 1]),
        ("update_job_checksum", [b"8", 1]),
        ("share_job", [" 8", True]),
        ("log", [OF_BEN, None, "INFO", "p", "m"]),
        ("create_outputs", [OF_BEN, [], 0.0]),
        ("del_calc", [OF_BEN, "anna"]),
        ("update_parent_child", [(OF_ANNA, OF_BEN)]),
        ("update_parent_child", [[OF_ANNA]]),
        ("update_parent_child", [OF_BEN]),
        ("delete_uncompleted_calculations", ["ben"]),
        ("add_tag_to_job", [OF_BEN, "t"]),
        ("delete_tag", ["t"]),
        ("unset_preferred_job_for_tag", ["t"]),
        ("keep", [OF_ANNA]),
        ("VACUUM", []),
        ("DELETE FROM job WHERE calculation_mode='workflow' AND not relevant", []),
        (DELETE, [[OF_ANNA, OF_BEN]]),
        (DELETE, ["78"]),
        (DELETE, [[OF_ANNA] * 2000]),
        (DELETE, []),
        (MOVE, ["/x/calc_8", OF_BEN]),
        ("UPDATE job SET hazard_calculation_id=?x WHERE id=?x", [OF_ANNA, OF_BEN]),
    ],
)
def test_calculation_changes_nothing_of_others(action: str, args: list[Any]) -> None:
    """Nor something of which nobody can tell whose it is."""
    with pytest.raises(errors.NotAllowedError):
        check(action, *args)


@pytest.mark.parametrize(
    ("action", "args", "expected"),
    [
        ("create_job", ["/d", "m", "d", "ben"], ["/d", "m", "d", "anna"]),
        ("create_job", ["/d", "m", "d"], ["/d", "m", "d"]),
        (
            "import_job",
            [9, "m", "d", "ben", "complete", None, "/d"],
            [9, "m", "d", "anna", "complete", None, "/d"],
        ),
        ("del_calc", [OF_ANNA, "ben"], [OF_ANNA, "anna"]),
    ],
)
def test_who_asks_is_the_person_of_the_calculation(action: str, args: list[Any], expected: list[Any]) -> None:
    """Whatever the call says; without a name the call's session has it."""
    assert check(action, *args) == expected


def test_service_may_do_everything() -> None:
    """In whoever's name it says."""
    args = ["/d", "m", "d", "ben"]

    assert check("create_job", *args, principal=principals.SERVICE) == args
    assert check("finish", OF_BEN, "failed", principal=principals.SERVICE) == [OF_BEN, "failed"]
