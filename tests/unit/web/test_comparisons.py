"""What differs between two calculations, as far as the service finds it by itself."""

from __future__ import annotations

from quakegrid.services.web.pages import comparisons


def test_parameters_that_differ_are_told() -> None:
    """With those that one of them does not have; where files were is no parameter."""
    one = {"truncation_level": "3", "poes": "[0.1]", "base_path": "/a", "same": "1"}
    other = {"truncation_level": "2", "base_path": "/b", "same": "1"}

    assert comparisons.other_parameters(one, other) == [
        {"name": "poes", "values": ["[0.1]", None]},
        {"name": "truncation_level", "values": ["3", "2"]},
    ]
    assert comparisons.other_parameters(one, one) == []


def test_times_are_told_where_one_is_known() -> None:
    """Records of tasks are removed some day."""
    found = {each["name"]: each["values"] for each in comparisons.other_times({"wall_s": 2.5}, None)}

    assert found["wall_s"] == [2.5, None]
    assert comparisons.other_times(None, None) == []
