"""The comparison of exported files notices what it must and forgives what it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine.exports import Rule, find_differences

COMMENT = "#,,\"generated_by='OpenQuake engine', start_date='{date}'\"\n"
TABLE = "site_id,poe,branch\n0,1.000000E-01,A~B\n1,nan,A~C\n"


def write(directory: Path, job_id: int, table: str) -> Path:
    """Write an exported file of one calculation and return its directory."""
    directory.mkdir()
    comment = COMMENT.format(date=f"2020-01-01T00:00:{job_id:02}")
    (directory / f"hazard_curve-mean-SA(0.1)_{job_id}.csv").write_text(comment + table, encoding="utf-8")
    return directory


def test_find_differences_forgives_ids_dates_and_rounding(tmp_path: Path) -> None:
    """Two runs of one calculation count as equal."""
    expected = write(tmp_path / "expected", 1, TABLE)
    actual = write(tmp_path / "actual", 22, TABLE.replace("1.000000E-01", "1.000009E-01"))

    assert find_differences(expected, actual) == []


def test_find_differences_matches_columns_by_name(tmp_path: Path) -> None:
    """The order of the columns does not matter."""
    expected = write(tmp_path / "expected", 1, "site_id,poe\n0,0.1\n1,0.2\n")
    actual = write(tmp_path / "actual", 1, "poe,site_id\n0.1,0\n0.2,1\n")

    assert find_differences(expected, actual) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("1.000000E-01", "1.000020E-01"),
        ("1.000000E-01", "nan"),
        ("nan", "0"),
        ("A~B", "A~D"),
        ("poe", "rate"),
        ("1,nan,A~C\n", ""),
        ("A~C\n", "A~C\n2,0,A~D\n"),
    ],
)
def test_find_differences_names_file_and_row(tmp_path: Path, old: str, new: str) -> None:
    """A wrong number, text, header or row is reported with its place."""
    expected = write(tmp_path / "expected", 1, TABLE)
    actual = write(tmp_path / "actual", 1, TABLE.replace(old, new))

    (difference,) = find_differences(expected, actual)

    assert difference.startswith("hazard_curve-mean-SA(0.1).csv: row ")


def test_find_differences_reports_missing_and_unexpected_files(tmp_path: Path) -> None:
    """The sets of files must be the same."""
    expected = write(tmp_path / "expected", 1, TABLE)
    (expected / "realizations_1.csv").write_text("rlz_id\n0\n", encoding="utf-8")
    actual = write(tmp_path / "actual", 1, TABLE)
    (actual / "events_1.csv").write_text("event_id\n0\n", encoding="utf-8")

    differences = find_differences(expected, actual)

    assert differences == ["realizations.csv: not exported", "events.csv: not expected"]


def test_remnant_of_a_failed_export_may_be_missing_and_is_compared_if_it_is_there(tmp_path: Path) -> None:
    """The plain engine leaves it; nobody else has to."""
    expected = write(tmp_path / "expected", 1, TABLE)
    (expected / "sitemesh_1.csv").write_text("site_id\n0\n", encoding="utf-8")
    actual = write(tmp_path / "actual", 1, TABLE)

    def rule_of(name: str) -> Rule:
        return Rule(is_remnant=name == "sitemesh.csv")

    assert find_differences(expected, actual, rule_of) == []
    assert find_differences(expected, actual) == ["sitemesh.csv: not exported"]
    (actual / "sitemesh_1.csv").write_text("site_id\n1\n", encoding="utf-8")
    assert len(find_differences(expected, actual, rule_of)) == 1


def test_rows_without_an_order_are_matched_by_their_values(tmp_path: Path) -> None:
    """Where the caller says that a file has none; values are compared as ever."""
    expected = write(tmp_path / "expected", 1, "site_id,poe\n0,0.1\n1,0.2\n")
    actual = write(tmp_path / "actual", 1, "site_id,poe\n1,0.2000001\n0,0.1\n")
    wrong = write(tmp_path / "wrong", 1, "site_id,poe\n1,0.1\n0,0.2\n")

    def rule_of(name: str) -> Rule:
        return Rule(has_order=name != "hazard_curve-mean-SA(0.1).csv")

    assert find_differences(expected, actual, rule_of) == []
    assert len(find_differences(expected, actual)) == 2
    assert len(find_differences(expected, wrong, rule_of)) == 2


def test_file_may_have_a_tolerance_of_its_own(tmp_path: Path) -> None:
    """Where the caller says so."""
    expected = write(tmp_path / "expected", 1, TABLE)
    actual = write(tmp_path / "actual", 1, TABLE.replace("1.000000E-01", "1.000050E-01"))

    assert find_differences(expected, actual, lambda _name: Rule(rtol=1e-4)) == []
    assert len(find_differences(expected, actual)) == 1
    assert len(find_differences(expected, actual, lambda _name: Rule(rtol=4e-5))) == 1
