"""What a failed call means to its caller."""

from __future__ import annotations

import grpc
import pytest

from quakegrid import errors
from quakegrid.clients import retries
from quakegrid.clients.dbserver.private_grpc_streams import BrokenStreamError
from quakegrid.services.dbserver.rpc import status_codes
from quakegrid.services.dbserver.store import sqlite_errors
from quakegrid.transport import grpc_channels

ADDRESS = "10.0.0.1:1911"


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED]
)
def test_who_does_not_answer_is_unreachable(code: grpc.StatusCode) -> None:
    """A service that was stopped cancels the calls whose time was over meanwhile; all may be sent again."""
    error = grpc_channels.translate(BrokenStreamError(code, ""), "broker", ADDRESS)

    assert isinstance(error, errors.PeerUnreachableError)
    assert ADDRESS in str(error)
    assert retries.is_transient(BrokenStreamError(code, ""))


def test_words_of_the_service_are_kept() -> None:
    """What it refuses is not sent again."""
    code = grpc.StatusCode.NOT_FOUND

    error = grpc_channels.translate(BrokenStreamError(code, "there is no job 3"), "dbserver", ADDRESS)

    assert isinstance(error, errors.NotFoundError)
    assert str(error) == "there is no job 3"
    assert not retries.is_transient(BrokenStreamError(code, "there is no job 3"))


def test_words_of_grpc_reach_nobody() -> None:
    """They name addresses and descriptors, not causes."""
    words = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:1911: FD Shutdown"

    error = grpc_channels.translate(BrokenStreamError(grpc.StatusCode.UNAVAILABLE, words), "broker", ADDRESS)

    assert "FD Shutdown" not in str(error)


def test_slow_answer_blames_no_firewall() -> None:
    """A service that answers too late is running."""
    error = grpc_channels.translate(
        BrokenStreamError(grpc.StatusCode.DEADLINE_EXCEEDED, ""), "dbserver", ADDRESS
    )

    assert "did not answer in time" in str(error)
    assert "firewall" not in str(error)


def test_service_that_cannot_now_says_why_and_is_asked_again() -> None:
    """Such as while another process holds the database."""
    busy = BrokenStreamError(grpc_channels.NOT_NOW, "another process holds db.sqlite3")

    error = grpc_channels.translate(busy, "dbserver", ADDRESS)

    assert str(error) == "another process holds db.sqlite3"
    assert retries.is_transient(busy)


def test_full_disk_is_waited_for() -> None:
    """Somebody may free space."""
    assert retries.is_transient(
        BrokenStreamError(grpc.StatusCode.RESOURCE_EXHAUSTED, "free space on its disk")
    )


@pytest.mark.parametrize("verb", ["Received", "Sent"])
def test_message_that_is_too_large_is_not_sent_again(verb: str) -> None:
    """It would be too large each time, and costs the service its making."""
    words = f"{verb} message larger than max (94000000 vs. 67108864)"
    too_large = BrokenStreamError(grpc.StatusCode.RESOURCE_EXHAUSTED, words)

    error = grpc_channels.translate(too_large, "dbserver", ADDRESS)

    assert not retries.is_transient(too_large)
    assert "at most 64 MiB" in str(error)


def test_busy_database_is_told_in_its_own_words() -> None:
    """UNAVAILABLE would blame a firewall."""
    assert (
        status_codes.status_of(sqlite_errors.DatabaseBusyError("another process holds it"))
        is grpc_channels.NOT_NOW
    )
