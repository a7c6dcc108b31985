"""What a session, or all sessions of a person together, may have, and how claims divide some cores.

Pure arithmetic on top of `shares`. Two things keep the plain division from being fair: a worker in a long
call keeps its core after its turn, and a session that has never had a task demands every core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quakegrid.services.broker.fleet.placing import shares
from quakegrid.services.broker.fleet.placing.shares import Demand

NO_LIMIT = -1


@dataclass(slots=True)
class Claim:
    """What a session or a person may have.

    Args:
        active_count: cores at most for sessions with tasks.
        idle_count: cores at most for sessions that have waited long for their first task.
        stuck_count: cores of workers that were asked to end long ago and still run their task.
        terms: its weight, how much it was served, and what it had already from another division; the limit is
            that of the one session, if it is of one.
        most: cores in all, those that it had included; `NO_LIMIT` for any number.
    """

    active_count: int
    idle_count: int
    stuck_count: int
    terms: Demand
    most: int = NO_LIMIT

    def demand(self, got: int, *, is_idle: bool) -> Demand:
        """What it asks for in one of the two rounds.

        Args:
            got: cores that it got in the round before.
            is_idle: whether this is the round of the idle sessions.
        """
        terms = self.terms
        limit = self.idle_count if is_idle else self.active_count
        if self.most != NO_LIMIT:
            limit = max(0, min(limit, self.most - terms.had - got))
        if limit == terms.limit and not got:
            return terms
        return Demand(limit, terms.weight, terms.served, terms.had + got)


def divide(core_count: int, claims: Sequence[Claim]) -> list[int]:
    """Cores for each claim. Its stuck cores count as its own, also where they are more than its share.

    Args:
        core_count: all cores that claims can have, those that are stuck included.
        claims: of sessions, or of persons.
    """
    kept: dict[int, int] = {}  # claims whose stuck cores are more than their share: nobody can have them
    while True:
        found = _divide_rest(core_count - sum(kept.values()), claims, kept)
        above = {
            number: claim.stuck_count
            for number, claim in enumerate(claims)
            if number not in kept and claim.stuck_count > found[number]
        }
        if not above:
            return found
        kept |= above


def _divide_rest(core_count: int, claims: Sequence[Claim], kept: dict[int, int]) -> list[int]:
    """Cores for those that are not in `kept`: first for sessions with tasks, then for idle ones."""
    found = [kept.get(number, 0) for number in range(len(claims))]
    for is_idle in (False, True):
        numbers = [
            number
            for number, claim in enumerate(claims)
            if (claim.idle_count if is_idle else claim.active_count) and number not in kept
        ]
        if numbers:
            demands = [claims[number].demand(found[number], is_idle=is_idle) for number in numbers]
            got = shares.divide(max(0, core_count), demands)
            for number, share in zip(numbers, got, strict=True):
                found[number] += share
            core_count -= sum(got)
    return found
