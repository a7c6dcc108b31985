"""Sends the files of a calculation to the master: only what it has not, in pieces, going on after a break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from quakegrid import errors
from quakegrid.clients.web.web_client import WebClient, refusal
from quakegrid.inputs.parcel import InputParcel, Item

MISSING_PATH = "/v1/inputs/missing"


class SendingProgress(Protocol):
    """What wants to know how far the files are."""

    def begin(self, file_count: int, size_bytes: int) -> None:
        """So many files of the parcel are missing there; so many bytes of them."""

    def add(self, size_bytes: int) -> None:
        """So many more bytes are there."""


class Silence:
    """Wants to know nothing."""

    def begin(self, file_count: int, size_bytes: int) -> None:
        """Do nothing."""

    def add(self, size_bytes: int) -> None:
        """Do nothing."""


def send(web: WebClient, parcel: InputParcel, progress: SendingProgress) -> int:
    """Send what the master has not; how many bytes that were.

    Raises:
        UsageError: the master does not take them, or a file has changed meanwhile.
        PeerUnreachableError: the master does not answer.
    """
    listed = [{"name": each.name, "size": each.size_bytes, "sha256": each.sha256} for each in parcel.items]
    answer = web.post(MISSING_PATH, {"files": listed})
    if answer.status >= 400:
        raise refusal(answer)
    document = answer.document()
    begun = {str(each["sha256"]): int(each["received_bytes"]) for each in document["missing"]}
    items = {each.sha256: each for each in parcel.items if each.sha256 in begun}
    left = sum(item.size_bytes - begun[sha256] for sha256, item in items.items())
    progress.begin(len(items), left)
    for sha256, item in items.items():
        _send_file(web, item, begun[sha256], int(document["piece_bytes"]), progress.add)
    return left


def _send_file(web: WebClient, item: Item, offset: int, piece_bytes: int, add: Callable[[int], None]) -> None:
    with item.path.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(min(piece_bytes, item.size_bytes - offset))
            if not data and item.size_bytes > offset:
                raise errors.UsageError(f"{item.path} became shorter while it was sent; start again")
            answer = web.put(f"/v1/inputs/{item.sha256}", data, offset=str(offset), size=str(item.size_bytes))
            received = int(answer["received_bytes"])
            add(received - offset)
            if received == item.size_bytes:
                return
            offset = received
