"""Two calculations, compared: parameters, numbers, tables of the engine."""

from __future__ import annotations

import math

import pytest

from quakegrid.comparison import numbers, parameters, tables
from quakegrid.comparison.numbers import Tolerance
from quakegrid.comparison.parameters import ParameterDifference
from quakegrid.comparison.tables import CsvTable, Likeness, TableDifference

CURVES = """\
#,,,"generated_by='OpenQuake engine 3.26.2', start_date='2026-01-02'"
lon,lat,poe-0.1
0.0,0.0,4.55E-01
0.1,0.0,1.50E-01
"""


def table(*rows: str, columns: str = "lon,poe") -> CsvTable:
    """A table of a few values."""
    return tables.read("\n".join([columns, *rows]))


def test_parameters_that_differ_are_told_by_name() -> None:
    """Also those that one has alone; not those that always differ."""
    left = {"truncation_level": "3", "ses_seed": "1", "export_dir": "/a", "same": "x"}
    right = {"truncation_level": "2", "minimum_magnitude": "5", "export_dir": "/b", "same": "x"}

    assert parameters.differing(left, right) == [
        ParameterDifference("minimum_magnitude", None, "5"),
        ParameterDifference("ses_seed", "1", None),
        ParameterDifference("truncation_level", "3", "2"),
    ]


def test_inputs_that_differ_are_told_by_name() -> None:
    """Also those of one alone, and those that nobody can compare any more."""
    left = {"sites.csv": "10 bytes, a", "old.xml": "gone", "job.ini": "9 bytes, c", "lost.xml": "gone"}
    right = {"sites.csv": "10 bytes, b", "old.xml": "gone", "job.ini": "9 bytes, c", "lost.xml": "3 bytes, d"}

    assert parameters.differing_inputs(left, right) == [
        ParameterDifference("lost.xml", "gone", "3 bytes, d"),
        ParameterDifference("old.xml", "gone", "gone"),
        ParameterDifference("sites.csv", "10 bytes, a", "10 bytes, b"),
    ]


@pytest.mark.parametrize(
    ("left", "right", "is_same"),
    [
        (1.0, 1.0, True),
        (1.0, 1.00009, True),
        (1.0, 1.0002, False),
        (0.0, 1e-11, True),
        (0.0, 1e-9, False),
        (math.nan, math.nan, True),
        (math.nan, 1.0, False),
        (math.inf, math.inf, True),
        (math.inf, 1.0, False),
        (math.inf, -math.inf, False),
    ],
)
def test_tolerance_is_of_the_larger_number(left: float, right: float, is_same: bool) -> None:
    """Whichever comes first; near zero the absolute one counts."""
    assert Tolerance().allows(left, right) is is_same
    assert Tolerance().allows(right, left) is is_same


def test_distance_is_a_part_of_the_larger_number() -> None:
    """Infinite beside what is no number."""
    assert numbers.relative(2.0, 4.0) == numbers.relative(4.0, 2.0) == 0.5
    assert numbers.relative(1.0, math.nan) == numbers.relative(math.inf, 1.0) == math.inf


def test_other_hazard_is_another_parameter() -> None:
    """It changes results, as what a calculation is called does not."""
    left = {"hazard_calculation_id": "1", "description": "a", "hdf5path": "/a", "job_ini": "/a.ini"}
    right = {"hazard_calculation_id": "2", "description": "b", "hdf5path": "/b", "job_ini": "/b.ini"}

    assert parameters.differing(left, right) == [ParameterDifference("hazard_calculation_id", "1", "2")]


def test_table_is_read_without_its_remarks() -> None:
    """Date and version differ from run to run."""
    assert tables.read(CURVES) == CsvTable(
        ("lon", "lat", "poe-0.1"), (("0.0", "0.0", "4.55E-01"), ("0.1", "0.0", "1.50E-01"))
    )
    assert tables.read("") == CsvTable((), ())


def test_result_has_a_name_without_the_number_of_its_calculation() -> None:
    """And only without that one."""
    assert tables.result_name("hazard_curve-mean-SA(0.1)_12.csv", 12) == "hazard_curve-mean-SA(0.1)"
    assert tables.result_name("agg_losses_3.csv", 12) == "agg_losses_3"


def test_same_numbers_in_other_words_are_the_same() -> None:
    """And so are numbers within the tolerance."""
    found = tables.compare("curves", table("0.1,1.0", "0.2,2.0"), table("0.10,1.0000001", "0.2,2.0"))

    assert found == TableDifference("curves", Likeness.SAME, count=4)


def test_largest_difference_is_told_with_its_place() -> None:
    """Of all that differ."""
    left, right = table("1,1.0", "2,2.0", "3,3.0"), table("1,1.5", "2,4.0", "3,3.3")

    found = tables.compare("curves", left, right)

    assert found == TableDifference("curves", Likeness.DIFFERS, 6, 3, 0.5, "row 2, poe: 2.0 and 4.0")


def test_texts_must_be_equal() -> None:
    """The first that differs is told, unless numbers do, too."""
    left, right = table("a,1.0", "b,1.0"), table("x,1.0", "b,1.0")

    assert tables.compare("sites", left, right).where == "row 1, lon: a and x"
    assert tables.compare("sites", left, table("a,1.0", "y,1.0")).differing_count == 1


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (table("0.1,1.0", columns="lon,rate"), "columns poe and rate"),
        (table("0.1,1.0,2.0", columns="lon,poe,more"), "2 and 3 columns"),
        (table("0.1,1.0", "0.2,1.0"), "1 and 2 rows"),
    ],
)
def test_tables_of_other_shapes_are_not_compared(right: CsvTable, words: str) -> None:
    """It is said what is different."""
    found = tables.compare("curves", table("0.1,1.0"), right)

    assert (found.likeness, found.where) == (Likeness.OTHER_SHAPE, words)


def test_all_results_are_told_also_of_one_calculation_alone() -> None:
    """All are the same only if each is."""
    one, both = table("0.1,1.0"), table("0.1,3.0")

    found = tables.compare_all({"a": one, "b": both}, {"b": both, "c": one})

    assert [(each.name, each.likeness) for each in found] == [
        ("a", Likeness.ONLY_LEFT),
        ("b", Likeness.SAME),
        ("c", Likeness.ONLY_RIGHT),
    ]
    assert not tables.is_same(found)
    assert tables.is_same(found[1:2])
    assert not tables.is_same([])


def test_large_tables_take_one_look_at_each_value() -> None:
    """A hundred thousand rows, of which one differs."""
    rows = tuple((str(number), "1.0") for number in range(100_000))
    other = (*rows[:-1], ("99999", "2.0"))

    found = tables.compare("gmf", CsvTable(("id", "gmv"), rows), CsvTable(("id", "gmv"), other))

    assert (found.count, found.differing_count) == (200_000, 1)
