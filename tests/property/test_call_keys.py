"""Keys of calls with any arguments: equal exactly where the values are."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quakegrid.sdk.answers.keys import CallKeys

KEYS = CallKeys(lambda _name: "1", lambda _name: "")
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, width=16)
    | st.text("ab", max_size=2)
    | st.binary(max_size=2)
)
HASHABLE = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=12,
)


def key(value: Any) -> bytes:
    """What a call with this argument is known by."""
    return KEYS.of(len, (value,), {})


def plain(value: Any) -> Any:
    """A value that is equal to another one exactly if types, and the order of all but sets, are equal."""
    if isinstance(value, set | frozenset):
        return type(value).__name__, sorted(repr(plain(each)) for each in value)
    if isinstance(value, dict):
        return "dict", [(plain(name), plain(each)) for name, each in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [plain(each) for each in value]
    return type(value).__name__, repr(value)


@settings(max_examples=60, deadline=None)
@given(one=VALUES, two=VALUES)
def test_keys_are_equal_exactly_where_values_are(one: Any, two: Any) -> None:
    """Also for a copy, in which no two parts are the same object."""
    assert key(copy.deepcopy(one)) == key(one)
    assert (key(one) == key(two)) == (plain(one) == plain(two))


@settings(max_examples=30, deadline=None)
@given(values=st.lists(HASHABLE, min_size=2, max_size=5, unique_by=repr))
def test_order_of_a_set_is_nothing(values: list[Any]) -> None:
    """However it was filled."""
    forth, back = set(values), set()
    for value in reversed(values):
        back.add(value)

    assert (key(forth) == key(back)) == (plain(forth) == plain(back))
