"""What somebody sees of the jobs who sees their own and shared ones only."""

from __future__ import annotations

import json

from quakegrid.services.web.live.feed import Event
from quakegrid.services.web.live.limited import LimitedView


def job(number: int, name: str, state: str = "complete") -> dict[str, object]:
    """A job as pages get it."""
    return {"id": number, "user_name": name, "state": state}


def passed(view: LimitedView, kind: str, value: object) -> tuple[str, object] | None:
    """What the reader gets of an event."""
    found = view.pass_on(Event(1, kind, json.dumps(value)))
    return None if found is None else (found.kind, json.loads(found.text))


def test_others_jobs_are_not_shown() -> None:
    """Neither at first nor as they change or go."""
    view = LimitedView("anna")

    shown = view.snapshot(
        json.dumps({"jobs": [job(1, "anna"), job(2, "ben"), job(3, "ben", "shared")], "x": 1})
    )

    assert json.loads(shown) == {"jobs": [job(1, "anna"), job(3, "ben", "shared")], "x": 1}
    assert passed(view, "job", job(2, "ben", "executing")) is None
    assert passed(view, "gone", {"id": 2}) is None
    assert passed(view, "job", job(4, "anna", "created")) == ("job", job(4, "anna", "created"))
    assert passed(view, "gone", {"id": 4}) == ("gone", {"id": 4})
    assert passed(view, "gone", {"id": 4}) is None


def test_job_comes_and_goes_as_it_is_shared() -> None:
    """For readers who follow already."""
    view = LimitedView("anna")

    assert passed(view, "job", job(2, "ben", "shared")) == ("job", job(2, "ben", "shared"))
    assert passed(view, "job", job(2, "ben")) == ("gone", {"id": 2})
    assert passed(view, "job", job(2, "ben")) is None


def test_only_known_events_are_passed_on() -> None:
    """A new kind of event may tell of anybody's jobs."""
    view = LimitedView("anna")

    assert passed(view, "connection", {"is_connected": True}) == ("connection", {"is_connected": True})
    assert passed(view, "stage", {"id": 1}) is None
