"""Who has to wait before another password is tried."""

from __future__ import annotations

import pytest

from quakegrid.services.dbserver.logins import limits
from quakegrid.services.dbserver.logins.limits import LoginLimits


def failed(found: LoginLimits, count: int, name: str = "anna", address: str = "10.0.0.1") -> float:
    """Tries so many wrong passwords, each as soon as it may be tried; returns when the last one began."""
    now_s = 0.0
    for number in range(count):
        while wait_s := found.begin(name.format(number), address.format(number), now_s):
            now_s += wait_s
    found.check()
    return now_s


def test_first_wrong_passwords_cost_no_wait() -> None:
    """People mistype."""
    assert failed(LoginLimits(), limits.NAME_FREE_COUNT) == 0


def test_waits_for_a_name_double_up_to_a_short_one() -> None:
    """Others cannot lock a person out for long, wherever they ask from."""
    found = LoginLimits()

    last_s = failed(found, limits.NAME_FREE_COUNT + 20, address="10.0.0.{}")

    assert found.begin("anna", "10.1.0.1", last_s) == limits.NAME_LONGEST_S
    assert found.begin("ben", "10.1.0.1", last_s) == 0


def test_wait_grows_with_each_try() -> None:
    """1, 2, 4 seconds."""
    found = LoginLimits()
    failed(found, limits.NAME_FREE_COUNT)

    assert found.begin("anna", "a", 0.0) == 1
    assert found.begin("anna", "a", 1.0) == 0
    assert found.begin("anna", "a", 1.0) == 2
    assert found.begin("anna", "a", 3.0) == 0
    assert found.begin("anna", "a", 3.5) == 3.5


def test_waits_for_an_address_grow_long() -> None:
    """Whatever names it tries."""
    found = LoginLimits()

    last_s = failed(found, limits.ADDRESS_FREE_COUNT + 15, name="name{}")

    wait_s = found.begin("another", "10.0.0.1", last_s)
    assert wait_s == pytest.approx(limits.ADDRESS_LONGEST_S)
    assert found.begin("another", "10.0.0.2", last_s) == 0


def test_networks_of_version_6_count_as_one() -> None:
    """Whoever has one address of a network has them all."""
    found = LoginLimits()

    failed(found, limits.ADDRESS_FREE_COUNT, name="name{}", address="2001:db8::{}")

    assert found.begin("another", "2001:db8::ffff", 0.0) > 0
    assert found.begin("another", "2001:db8:0:1::1", 0.0) == 0


def test_right_password_forgives_and_time_forgets() -> None:
    """A person who has mistyped begins anew."""
    found = LoginLimits()
    failed(found, limits.NAME_FREE_COUNT, address="no address")

    found.succeed("anna", "no address")
    assert failed(found, limits.NAME_FREE_COUNT, address="no address") == 0

    assert found.begin("anna", "no address", 0.0) > 0
    assert found.begin("anna", "no address", limits.FORGET_S + 1) == 0
    assert found.begin("anna", "no address", limits.FORGET_S + 1) == 0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of names and addresses takes the place of the oldest ones."""
    monkeypatch.setattr(limits, "MOST_REMEMBERED", 100)
    found = LoginLimits()

    for number in range(1000):
        assert found.begin(f"name{number}", f"address{number}", 0.0) == 0
        found.check()
