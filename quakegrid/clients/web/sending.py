"""Sends the files of a calculation to the master: only what it has not, in pieces, going on after a break."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from quakegrid import errors
from quakegrid.clients.web.web_client import WebClient, refusal
from quakegrid.inputs.parcel import InputParcel, Item

MISSING_PATH = "/v1/inputs/missing"
# Files that are sent at once: small ones wait for the link, not for its breadth. The service takes as many.
SENDER_COUNT = 4


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
    piece_bytes = int(document["piece_bytes"])

    def send_share(share: list[Item], is_over: threading.Event) -> None:
        with web.twin() as twin:
            for item in share:
                for count in _send_file(twin, item, begun[item.sha256], piece_bytes):
                    progress.add(count)
                    if is_over.is_set():
                        return

    shares = [list(items.values())[number::SENDER_COUNT] for number in range(min(len(items), SENDER_COUNT))]
    _at_once(shares, send_share)
    return left


def _at_once(shares: list[list[Item]], send: Callable[[list[Item], threading.Event], None]) -> None:
    """Send shares in threads. If one fails, or a person breaks off, the others end with their next piece.

    They are not waited for then, as each may wait for a link that is gone.
    """
    ends: queue.Queue[Exception | None] = queue.Queue()
    is_over = threading.Event()

    def run(share: list[Item]) -> None:
        try:
            send(share, is_over)
        except Exception as exc:  # noqa: BLE001 - raised where it is waited for
            ends.put(exc)
        else:
            ends.put(None)

    try:
        for share in shares:
            threading.Thread(target=run, args=(share,), name="send", daemon=True).start()
        for _ in shares:
            trouble = ends.get()
            if trouble is not None:
                raise trouble
    finally:
        is_over.set()


def _send_file(web: WebClient, item: Item, offset: int, piece_bytes: int) -> Iterator[int]:
    """Send a file; gives how many more bytes of it are there after each piece."""
    with item.path.open("rb") as file:
        while True:
            file.seek(offset)
            data = file.read(min(piece_bytes, item.size_bytes - offset))
            if not data and item.size_bytes > offset:
                raise errors.UsageError(f"{item.path} became shorter while it was sent; start again")
            answer = web.put(f"/v1/inputs/{item.sha256}", data, offset=str(offset), size=str(item.size_bytes))
            received = int(answer["received_bytes"])
            yield received - offset
            if received == item.size_bytes:
                return
            offset = received
