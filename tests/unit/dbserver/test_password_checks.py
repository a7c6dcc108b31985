"""Passwords are checked with the same work for every name, few at a time."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import itertools
import threading

import pytest

from quakegrid import errors
from quakegrid.access.principals import PrincipalRole
from quakegrid.services.dbserver.logins import checks, hashes
from quakegrid.services.dbserver.logins.checks import PasswordChecks
from quakegrid.services.dbserver.logins.password_rows import PasswordRow

TIMEOUT_S = 30


class CountingHasher:
    """Hashes that cost nothing, counted."""

    def __init__(self) -> None:
        self.checked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def make(self, password: str) -> str:
        """The hash of a new password."""
        return f"new {password}"

    def is_right(self, password: str, expected: str) -> bool:
        """Whether a password has this hash."""
        self.checked.append(expected)
        assert self.go_on.wait(TIMEOUT_S)
        return expected in (f"new {password}", f"old {password}")

    def is_old(self, expected: str) -> bool:
        """Whether a right password is to be stored by another hash."""
        return expected.startswith("old ")


class Door:
    """Checks of a few people's passwords."""

    def __init__(self) -> None:
        self.rows = {
            "anna": PasswordRow("anna", "operator", "new secret"),
            "olga": PasswordRow("olga", "user", "old secret"),
            "rudi": PasswordRow("rudi", "user", ""),
        }
        self.hasher, self.kept = CountingHasher(), list[PasswordRow]()
        self.checks = PasswordChecks(self.rows.get, self._keep, self.hasher)

    async def _keep(self, row: PasswordRow) -> None:
        self.kept.append(row)


def test_right_password_tells_the_role() -> None:
    """And nothing is stored."""
    door = Door()

    assert asyncio.run(door.checks.check("anna", "secret", "::1")) is PrincipalRole.OPERATOR
    assert door.kept == []


def test_unknown_name_takes_the_work_and_words_of_a_wrong_password() -> None:
    """One hash is computed in any case, also for somebody who was revoked."""
    told = set()
    for name in ("anna", "nobody", "rudi"):
        door = Door()
        with pytest.raises(errors.NotAllowedError) as caught:
            asyncio.run(door.checks.check(name, "wrong", "::1"))
        told.add(str(caught.value))
        assert len(door.hasher.checked) == 1
    assert told == {"the name or the password is wrong"}
    with pytest.raises(errors.NotAllowedError):
        asyncio.run(Door().checks.check("rudi", "", "::1"))


def test_old_hash_is_replaced_at_the_first_login() -> None:
    """By one of the same password."""
    door = Door()

    asyncio.run(door.checks.check("olga", "secret", "::1"))

    assert [row.hash for row in door.kept] == ["new secret"]


def test_flood_computes_few_hashes() -> None:
    """Tries side by side gain nothing: the first ones of a name are looked at, the others have to wait."""
    door = Door()

    async def flood() -> list[BaseException | PrincipalRole]:
        tries = [door.checks.check("anna", f"wrong{number}", "::1") for number in range(1000)]
        return await asyncio.gather(*tries, return_exceptions=True)

    answers = asyncio.run(flood())

    waiting = [answer for answer in answers if isinstance(answer, errors.TooManyTriesError)]
    assert len(door.hasher.checked) == 5
    assert len(waiting) == 995
    assert "wait 1 s" in str(waiting[0])


def test_flood_of_names_and_addresses_is_bounded() -> None:
    """However many try at once, few hashes are computed, and few wait for them."""
    door = Door()
    door.hasher.go_on.clear()

    async def flood() -> list[BaseException | PrincipalRole]:
        tries = [
            asyncio.ensure_future(door.checks.check(f"n{number}", "", f"10.0.0.{number}"))
            for number in range(200)
        ]
        for refused in itertools.islice(
            asyncio.as_completed(tries), 200 - checks.RUNNING_COUNT - checks.WAITING_COUNT
        ):
            with pytest.raises(errors.TooManyTriesError):
                await refused
        with pytest.raises(errors.TooManyTriesError):
            await door.checks.make("new password")
        door.hasher.go_on.set()
        return await asyncio.gather(*tries, return_exceptions=True)

    asyncio.run(flood())

    assert len(door.hasher.checked) == checks.RUNNING_COUNT + checks.WAITING_COUNT
    door.checks.close()


def test_hashes_are_argon2_and_djangos() -> None:
    """Of the form that Django stores; a foreign one never fits."""
    ours = hashes.make("secret")
    digest = base64.b64encode(hashlib.pbkdf2_hmac("sha256", b"secret", b"salt", 1000)).decode()
    django = f"pbkdf2_sha256$1000$salt${digest}"

    assert ours.startswith("$argon2id$")
    assert hashes.is_right("secret", ours)
    assert not hashes.is_right("wrong", ours)
    assert hashes.is_right("secret", django)
    assert not hashes.is_right("wrong", django)
    assert hashes.is_old(django)
    assert not hashes.is_old(ours)


@pytest.mark.parametrize(
    "stored", ["", "!unusable", "md5$salt$00", "pbkdf2_sha256$x$salt$AA==", "pbkdf2_sha256$0$salt$AA==",
               "pbkdf2_sha256$99999999$salt$AA==", "pbkdf2_sha256$1$salt", "pbkdf2_sha256$1$salt$!"]
)  # fmt: skip
def test_other_hashes_fit_no_password(stored: str) -> None:
    """Nor may they cost minutes."""
    assert not hashes.is_right("", stored)
