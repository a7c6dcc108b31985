"""What somebody sees of the jobs who sees their own and shared ones only. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quakegrid.services.web.live.feed import Event

SHARED = "shared"
# What happened to a calculation of somebody else, by the kind of the event.
OTHERS = {
    "worker_lost": "a worker of somebody else's calculation was lost",
    "session_ended": "somebody else's calculation ended",
    "node_left_out": "somebody else's calculation leaves out a node",
}
_UNSEEN: dict[str, Any] = {
    "user_name": "", "job_ids": [], "host": "", "wait_reason": "", "ahead_job_ids": [], "stages": [],
    "is_of_others": True,
}  # fmt: skip
OTHER = "something happened to somebody else's calculation"


def is_seen(job: Mapping[str, Any], name: str) -> bool:
    """Whether a person sees a job, as pages get it."""
    return bool(job["user_name"] == name or job["state"] == SHARED)


def fleet(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The fleet for a person: sessions of others have cores, tasks and a place in the queue, and no names."""
    own = {job_id for each in state["sessions"] if each["user_name"] == name for job_id in each["job_ids"]}
    sessions = [
        session | {"ahead_job_ids": [job_id for job_id in session["ahead_job_ids"] if job_id in own]}
        if session["user_name"] == name
        else session | _UNSEEN
        for session in state["sessions"]
    ]
    return {**state, "sessions": sessions}


def event(found: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An event for a person: one of a calculation of somebody else has neither its number nor a name."""
    is_of_others = (found["user_name"] or found["job_ids"]) and found["user_name"] != name
    if not is_of_others:
        return dict(found)
    words = f"{OTHERS.get(found['kind'], OTHER)}{' on ' + found['node'] if found['node'] else ''}"
    return {**found, "user_name": "", "job_ids": [], "words": words}


class LimitedView:
    """The events of jobs for one reader.

    Args:
        name: of the person.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._shown: set[int] = set()

    def snapshot(self, text: str) -> str:
        """All jobs that the reader sees.

        Args:
            text: JSON of all jobs.
        """
        found = json.loads(text)
        found["jobs"] = [job for job in found["jobs"] if is_seen(job, self._name)]
        self._shown = {job["id"] for job in found["jobs"]}
        return json.dumps(found)

    def pass_on(self, event: Event) -> Event | None:
        """An event as the reader gets it; None if it is not for them.

        A job that is shared no more goes. A kind of event that is not known here is not passed on.
        """
        if event.kind == "connection":
            return event
        if event.kind not in ("job", "gone"):
            return None
        found = json.loads(event.text)
        if event.kind == "job" and is_seen(found, self._name):
            self._shown.add(found["id"])
            return event
        if found["id"] not in self._shown:
            return None
        self._shown.discard(found["id"])
        return Event(event.number, "gone", json.dumps({"id": found["id"]}))
