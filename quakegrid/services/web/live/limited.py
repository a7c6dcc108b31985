"""What somebody sees of the jobs who sees their own and shared ones only. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from quakegrid.services.web.live.feed import Event

SHARED = "shared"


def is_seen(job: Mapping[str, Any], name: str) -> bool:
    """Whether a person sees a job, as pages get it."""
    return bool(job["user_name"] == name or job["state"] == SHARED)


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
