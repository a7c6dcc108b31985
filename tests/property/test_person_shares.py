"""Cores are divided fairly among persons, and what a person has among the sessions of that person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from quakegrid.services.broker.fleet.cores import Kind
from quakegrid.services.broker.fleet.placing import targets
from quakegrid.services.broker.fleet.placing.shares import Demand
from quakegrid.services.broker.fleet.placing.targets import PersonRules, Wish

PERSONS = ("", "anna", "ben", "carl")
DEMANDS = st.builds(Demand, st.integers(0, 40), st.sampled_from([0.25, 1.0, 3.0]), st.floats(0, 5))
BUSY = st.builds(Wish, DEMANDS, person=st.sampled_from(PERSONS))
ANY = st.builds(Wish, DEMANDS, st.integers(0, 6), st.booleans(), st.sampled_from(PERSONS))
RULES = st.builds(
    PersonRules, st.sampled_from([0, 0, 1, 7]), st.dictionaries(st.sampled_from(PERSONS[1:]), st.floats(0, 5))
)
OLD, NEW = frozenset({1}), frozenset[int]()


def owners(wishes: Sequence[Wish]) -> list[str]:
    """Whose each session is; one of nobody has a name of its own."""
    return [wish.person or f"session {number}" for number, wish in enumerate(wishes)]


def totals(wishes: Sequence[Wish], values: Sequence[int]) -> Counter[str]:
    """Sums over the sessions of each person."""
    found = Counter[str]()
    for owner, value in zip(owners(wishes), values, strict=True):
        found[owner] += value
    return found


def limits(wishes: Sequence[Wish], rules: PersonRules) -> dict[str, int]:
    """Cores that each person can have at most."""
    wanted = totals(wishes, [wish.demand.limit for wish in wishes])
    return {owner: min(count, rules.max_cores or count) for owner, count in wanted.items()}


def weights(wishes: Sequence[Wish]) -> dict[str, float]:
    """Of persons: the largest of the sessions that want cores; more than 1 for sessions of nobody only."""
    found: dict[str, float] = {}
    for owner, wish in zip(owners(wishes), wishes, strict=True):
        if wish.demand.limit:
            weight = min(1.0, wish.demand.weight) if wish.person else wish.demand.weight
            found[owner] = max(found.get(owner, 0.0), weight)
    return found


def check_fair(have: Sequence[int], wanted: Sequence[int], weight: Sequence[float]) -> None:
    """Nobody has a core more than fair while another one lacks some; one core each does not count."""
    for mine, limit, my_weight in zip(have, wanted, weight, strict=True):
        if mine < limit:
            for others, other_weight in zip(have, weight, strict=True):
                assert others <= 1 or (others - 1) / other_weight <= (mine + 1) / my_weight * (1 + 1e-9)


@given(st.integers(0, 90), st.lists(BUSY, max_size=9), RULES)
def test_no_person_lacks_a_core_that_another_has_above_the_share(
    core_count: int, wishes: list[Wish], rules: PersonRules
) -> None:
    """Persons first, then the sessions of each; no core is left that somebody may have."""
    found = targets.divide(core_count, wishes, rules)

    have, most, weight = totals(wishes, found), limits(wishes, rules), weights(wishes)
    assert sum(found) == min(core_count, sum(most.values()))
    assert all(0 <= target <= wish.demand.limit for target, wish in zip(found, wishes, strict=True))
    assert all(have[owner] <= most[owner] for owner in most)
    wanting = list(weight)
    check_fair(
        [have[owner] for owner in wanting],
        [most[owner] for owner in wanting],
        [weight[owner] for owner in wanting],
    )
    for owner in wanting:
        mine = [
            number
            for number, each in enumerate(owners(wishes))
            if each == owner and wishes[number].demand.limit
        ]
        if have[owner] < most[owner] or have[owner] == rules.max_cores:
            check_fair(
                [found[number] for number in mine],
                [wishes[number].demand.limit for number in mine],
                [wishes[number].demand.weight for number in mine],
            )


@given(st.integers(0, 30), st.lists(ANY, max_size=8), RULES)
def test_stuck_cores_are_their_persons_and_limits_hold(
    core_count: int, wishes: list[Wish], rules: PersonRules
) -> None:
    """Each session has at least what is stuck in it, and no person more than the limit, or what is stuck."""
    found = targets.divide(core_count, wishes, rules)

    stuck = [wish.stuck_count for wish in wishes]
    assert all(target >= count for target, count in zip(found, stuck, strict=True))
    assert sum(found) <= max(core_count, sum(stuck))
    have, stuck_of = totals(wishes, found), totals(wishes, stuck)
    assert all(count <= max(rules.max_cores or count, stuck_of[owner]) for owner, count in have.items())


@given(st.integers(0, 20), st.integers(0, 20), st.data(), RULES)
def test_limits_hold_where_nodes_differ(
    old_count: int, new_count: int, data: st.DataObject, rules: PersonRules
) -> None:
    """No pool of nodes is promised twice, and a person's cores of all pools count together."""
    fits = [frozenset({OLD}), frozenset({NEW}), frozenset({OLD, NEW})]
    sessions = data.draw(st.lists(st.tuples(BUSY, st.sampled_from(fits)), max_size=8))
    wishes = [wish for wish, _ in sessions]

    found = targets.divide_by_kind(
        old_count + new_count, wishes, {OLD: old_count, NEW: new_count}, [fit for _, fit in sessions], rules
    )

    def inside(kind: Kind) -> int:
        return sum(
            target for target, (_, fit) in zip(found, sessions, strict=True) if fit == frozenset({kind})
        )

    assert sum(found) <= old_count + new_count
    assert inside(OLD) <= old_count
    assert inside(NEW) <= new_count
    assert all(count <= (rules.max_cores or count) for count in totals(wishes, found).values())


@given(st.integers(1, 200), st.integers(1, 20))
def test_one_job_of_one_person_has_as_much_as_many_of_another(core_count: int, job_count: int) -> None:
    """Half each, within a core."""
    wishes = [Wish(Demand(core_count), person="anna")] * job_count + [Wish(Demand(core_count), person="ben")]

    found = targets.divide(core_count, wishes)

    assert sum(found) == core_count
    assert abs(found[-1] - sum(found[:-1])) <= 1
