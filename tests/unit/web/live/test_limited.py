"""What somebody sees of the jobs who sees their own and shared ones only."""

from __future__ import annotations

import json

from quakegrid.services.web.live import limited
from quakegrid.services.web.live.events import EventFeed
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


def session(number: int, name: str, **changes: object) -> dict[str, object]:
    """A session as pages get it."""
    return {
        "session_id": number, "user_name": name, "job_ids": [number], "host": "pc", "wait_reason": "",
        "stages": [], "state": "waits", "ahead_job_ids": [], "ahead_count": 0, "core_count": 4,
    } | changes  # fmt: skip


def test_sessions_of_others_have_no_names() -> None:
    """Their cores and their place in the queue are shown; of the own ones all, but the numbers ahead."""
    stages = [{"job_id": 7, "operation": "classical of ben"}]
    own = session(3, "anna", ahead_job_ids=[1, 2], ahead_count=2, stages=[{"job_id": 3}])
    state = {
        "nodes": [{"host": "n1"}],
        "sessions": [session(1, "ben", wait_reason="job 7", stages=stages), session(2, "anna"), own],
    }

    found = limited.fleet(state, "anna")

    assert "ben" not in json.dumps(found)
    other, second, third = found["sessions"]
    assert (other["job_ids"], other["host"], other["wait_reason"], other["core_count"]) == ([], "", "", 4)
    assert second == session(2, "anna")
    assert other["stages"] == []
    assert (third["ahead_job_ids"], third["ahead_count"], third["stages"]) == ([2], 2, own["stages"])
    assert found["nodes"] == state["nodes"]


def test_events_of_others_have_no_names() -> None:
    """What happened is told, and where; events of nodes are for all."""

    def told(kind: str, name: str, ids: list[int], node: str = "") -> dict[str, object]:
        words = f"{kind} of job 7 of {name}"
        found = limited.event(
            {"id": 1, "kind": kind, "user_name": name, "job_ids": ids, "node": node, "words": words}, "anna"
        )
        assert found["words"] == words or "7" not in json.dumps(found)
        return found

    lost = told("worker_lost", "ben", [7], "n1")
    assert (lost["words"], lost["job_ids"]) == ("a worker of somebody else's calculation was lost on n1", [])
    assert told("later", "", [7])["words"] == limited.OTHER
    assert told("session_ended", "anna", [7])["job_ids"] == [7]
    assert told("node_lost", "", [], "n1")["words"] == "node_lost of job 7 of "


def test_frames_of_a_person_are_changed() -> None:
    """The whole, and each event."""
    feed = EventFeed(lambda: None)  # type: ignore[arg-type, return-value]
    feed.tell(
        "event",
        json.dumps({"kind": "later", "user_name": "ben", "job_ids": [7], "node": "", "words": "of ben"}),
    )

    made = feed.frames_for("anna").of(feed.since(0))

    assert b"ben" not in made
    assert limited.OTHER.encode() in made
    assert b"of ben" in feed.frames.of(feed.since(0))
    assert feed.frames_for("anna") is feed.frames_for("anna")
    assert feed.frames_for("anna").of(None).endswith(b'{"is_connected": false, "events": []}\n\n')
