"""What a failed call means to its caller."""

from __future__ import annotations

import grpc
import pytest

from quakegrid import errors, retries, rpc
from quakegrid.own_thread_streams import BrokenStreamError

ADDRESS = "10.0.0.1:1911"


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED]
)
def test_who_does_not_answer_is_unreachable(code: grpc.StatusCode) -> None:
    """A service that was stopped cancels the calls whose time was over meanwhile; all may be sent again."""
    error = rpc.translate(BrokenStreamError(code, ""), "broker", ADDRESS)

    assert isinstance(error, errors.PeerUnreachableError)
    assert ADDRESS in str(error)
    assert code in retries.TRANSIENT


def test_words_of_the_service_are_kept() -> None:
    """What it refuses is not sent again."""
    code = grpc.StatusCode.NOT_FOUND

    error = rpc.translate(BrokenStreamError(code, "there is no job 3"), "dbserver", ADDRESS)

    assert isinstance(error, errors.NotFoundError)
    assert str(error) == "there is no job 3"
    assert code not in retries.TRANSIENT
