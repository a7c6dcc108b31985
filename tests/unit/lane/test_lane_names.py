"""Who a peer of a lane is, by its routing id."""

from __future__ import annotations

import pytest

from quakegrid.errors import PeerError
from quakegrid.transport import lane_names
from quakegrid.transport.keys import lane_keys
from quakegrid.transport.lane_names import DriverName, WorkerName

KEY = lane_keys.token_key("a key of this test")
DRIVER = lane_names.driver_name(7, lane_keys.session_token(KEY, 7))
WORKER = lane_names.worker_name(7, "w-1 b", lane_keys.worker_token(KEY, 7, "w-1 b"))


def test_names_say_who_somebody_is() -> None:
    """A driver or a worker, of which session."""
    assert lane_names.read_name(DRIVER, KEY) == DriverName(7)
    assert lane_names.read_name(WORKER, KEY) == WorkerName(7, "w-1 b")
    assert max(len(DRIVER), len(WORKER)) < 256


def test_name_of_another_key_proves_nothing() -> None:
    """Tokens are the broker's to give."""
    for name in (DRIVER, WORKER):
        with pytest.raises(PeerError):
            lane_names.read_name(name, lane_keys.token_key("another key"))


@pytest.mark.parametrize("name", [DRIVER, WORKER])
def test_name_that_was_changed_in_any_byte_proves_nothing(name: bytes) -> None:
    """Neither session nor worker nor token may be another."""
    for place in range(len(name)):
        changed = bytes([*name[:place], name[place] ^ 1, *name[place + 1 :]])
        with pytest.raises(PeerError):
            lane_names.read_name(changed, KEY)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b" ",
        b"driver",
        b"driver 7 ",
        b"worker 7",
        b"driver \xc2\xb2 x",
        b"\xff" * 255,
        DRIVER.replace(b" 7 ", b" 07 "),
        b"driver " + b"9" * 200,
    ],
)
def test_what_is_no_name_proves_nothing(name: bytes) -> None:
    """Whatever a peer calls itself."""
    with pytest.raises(PeerError):
        lane_names.read_name(name, KEY)


def test_names_in_logs_keep_their_tokens_to_themselves() -> None:
    """They are short, and one line each."""
    shown = [lane_names.shown(name) for name in (DRIVER, WORKER, b"odd\n\xff" * 50)]

    assert shown[:2] == ["'driver 7'", "'worker 7 w-1 b'"]
    assert len(shown[2]) < 700
    assert "\n" not in shown[2]


def test_tokens_differ_by_session_worker_and_kind() -> None:
    """One of a worker is not that of another, nor of its driver."""
    tokens = {
        lane_keys.session_token(KEY, 7),
        lane_keys.session_token(KEY, 8),
        lane_keys.worker_token(KEY, 7, "w1"),
        lane_keys.worker_token(KEY, 8, "w1"),
        lane_keys.worker_token(KEY, 7, "w2"),
        lane_keys.worker_token(lane_keys.token_key("another"), 7, "w2"),
    }

    assert len(tokens) == 6
    assert all(len(token) == 64 for token in tokens)
    assert lane_keys.is_token(lane_keys.session_token(KEY, 7), lane_keys.session_token(KEY, 7))
    assert not lane_keys.is_token("", lane_keys.session_token(KEY, 7))
    assert not lane_keys.is_token("\udc80é", lane_keys.session_token(KEY, 7))
