"""Tables of what the engine's extractors give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from quakegrid import errors
from quakegrid.sdk.calculations import tables

pytest.importorskip("pandas")


def columns(arrays: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of the table."""
    table = tables.to_table(arrays)
    return {name: list(table[name]) for name in table.columns}


def test_fields_within_fields_become_columns() -> None:
    """As in hazard curves of all sites: statistics, then intensities, then levels."""
    curve = np.dtype([("0.1", "f4"), ("0.2", "f4")])
    sites = np.zeros(2, [("lon", "f4"), ("mean", [("PGA", curve)])])
    sites["lon"] = [1.5, 2.5]
    sites["mean"]["PGA"]["0.2"] = [0.25, 0.5]

    found = columns({"all": sites, "investigation_time": np.array(50.0)})

    assert found == {"lon": [1.5, 2.5], "mean/PGA/0.1": [0.0, 0.0], "mean/PGA/0.2": [0.25, 0.5]}


def test_main_array_is_the_table() -> None:
    """With fields, as rows of numbers, or as one column; texts are texts."""
    assert columns({"array": np.array([(1, b"a")], [("id", "i4"), ("tag", "S3")]), "x": np.zeros(9)}) == {
        "id": [1],
        "tag": ["a"],
    }
    assert columns({"array": np.array([[1, 2], [3, 4]])}) == {"value/0": [1, 3], "value/1": [2, 4]}
    assert columns({"array": np.array([1, 2])}) == {"value": [1, 2]}


def test_columns_of_one_length_make_a_table() -> None:
    """As of ground motion fields; what is shorter is no column."""
    found = columns({"sid": np.array([0, 1]), "gmv_0": np.array([0.5, 0.6]), "imt": np.array(["PGA"])})

    assert found == {"sid": [0, 1], "gmv_0": [0.5, 0.6]}


def test_curves_of_sites_are_columns_without_parameters() -> None:
    """A row for each site; beside one site, lists of parameters would be columns of one row."""
    one = {"mean": np.array([[[0.1, 0.2]]]), "kind": np.array(["mean"]), "k": np.array([0])}

    assert columns(one) == {"mean/0": [0.1], "mean/1": [0.2]}


def test_what_is_no_table_is_told() -> None:
    """With the names of what there is."""
    with pytest.raises(errors.UsageError, match="it has json"):
        tables.to_table({"json": np.array(b"{}")})
