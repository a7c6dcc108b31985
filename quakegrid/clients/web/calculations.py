"""Starts calculations at the web service, of files that are there by their hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from quakegrid import errors
from quakegrid.clients.retries import new_request_id
from quakegrid.clients.web import sending
from quakegrid.clients.web.sending import SendingProgress
from quakegrid.clients.web.web_client import WebClient, refusal
from quakegrid.inputs.parcel import InputParcel

# How often files are sent again that were removed on the master between two requests.
MOST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class WebWishes:
    """How to run a calculation.

    Args:
        hazard_job_id: the calculation that it starts from; None for none.
        params: values that take the place of those of the job file.
        weight: share of the cores beside other calculations of this person; None for the usual one.
        cores_per_worker: of each worker; None for one.
        notify: addresses that are told its end.
    """

    hazard_job_id: int | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    weight: float | None = None
    cores_per_worker: int | None = None
    notify: Sequence[str] = ()


def send_and_start(web: WebClient, parcel: InputParcel, wishes: WebWishes, progress: SendingProgress) -> int:
    """Send what the master has not, and start the calculation; its id.

    Raises:
        UsageError: the files, or the job file, are refused: the engine's own words.
        PeerUnreachableError: the master does not answer.
    """
    request_id = new_request_id()
    for _ in range(MOST_ROUNDS):
        sending.send(web, parcel, progress)
        answer = web.post("/v1/calc/run", _manifest(parcel, wishes, request_id))
        if answer.status == 409:
            continue
        document = answer.document()
        if answer.status == 200:
            return int(document["job_id"])
        if document.get("traceback"):
            raise errors.UsageError(_last_line(document["traceback"]))
        raise refusal(answer)
    raise errors.StateError("the master does not keep the inputs for long enough; its disk may be full")


def _manifest(parcel: InputParcel, wishes: WebWishes, request_id: str) -> dict[str, object]:
    # What the job file wants exported comes here, not into a folder of the master.
    params = {"exports": "", **wishes.params}
    manifest: dict[str, object] = {
        "files": {each.name: each.sha256 for each in parcel.items},
        "job_ini": parcel.job_file,
        "request_id": request_id,
        "params": params,
        "notify": list(wishes.notify),
    }
    optional = {
        "hazard_job_id": wishes.hazard_job_id,
        "weight": wishes.weight,
        "cores_per_worker": wishes.cores_per_worker,
    }
    return manifest | {name: value for name, value in optional.items() if value is not None}


def _last_line(traceback: Sequence[str]) -> str:
    lines = [line.strip() for line in traceback if line.strip()]
    return lines[-1] if lines else "the engine refused the calculation"
