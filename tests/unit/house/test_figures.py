"""Lines and exit codes of benchmarks."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import compare, headlines
from benchmarks.support import records
from benchmarks.support.figures import Figure
from benchmarks.support.records import Machine, Record, report

ROOT = Path(__file__).parents[3]
BENCHMARKS = sorted((ROOT / "benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize(
    ("figure", "end"),
    [
        (Figure("fast enough", 2.0, "x", at_least=2), "2 x   >= 2 x       ok"),
        (Figure("too slow", 1.96, "x", at_least=2), "1.96 x   >= 2 x       short"),
        (Figure("too large", 0.0123, "s", at_most=0.01), "0.0123 s   <= 0.01 s    short"),
        (Figure("between", 0.6, "", at_least=0.475, at_most=0.525), "0.6     >= 0.475, <= 0.525 short"),
        (Figure("many", 25_400.0, "/s", at_least=25_000), "25,400 /s  >= 25,000 /s ok"),
        (Figure("nothing came out", math.nan, "s", at_most=1), "nan s   <= 1 s       short"),
        (Figure("for comparison", 4.0, "s"), "4 s   -            -"),
    ],
)
def test_figure_is_one_line_with_its_target_and_whether_it_is_met(figure: Figure, end: str) -> None:
    """Also one that could not be measured."""
    assert str(figure).split(maxsplit=0)[0].startswith(figure.name)
    assert str(figure).endswith(f" {end}")
    assert "\n" not in str(figure)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where records go, other than those of the checkout."""
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    return tmp_path / "results"


@pytest.mark.usefixtures("results")
def test_each_figure_is_told_as_soon_as_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark that breaks later has told what it has; the exit code knows of any that is short."""

    def measure() -> Iterator[Figure]:
        yield Figure("first", 1.0, "s", at_most=0.5)
        assert "first" in capsys.readouterr().out
        yield Figure("second", 1.0, "s", at_most=2)

    assert report("first", measure()) == 1
    assert report("first", [Figure("second", 1.0, "s", at_most=2), Figure("third", 1.0, "s")]) == 0


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_ends_with_the_exit_code_of_its_figures(path: Path) -> None:
    """`make bench-...` fails when a figure is short."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    reports = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "report"]
    exits = [call for call in calls if ast.unparse(call.func) == "sys.exit"]

    assert len(reports) == 1
    assert [ast.unparse(call) for call in exits] in (
        ["sys.exit(main())"],
        [f"sys.exit(report('{path.stem.removeprefix('bench_')}', figures()))"],
    )


def test_figures_are_kept_by_benchmark_commit_and_machine(results: Path) -> None:
    """A later part of the same benchmark joins the file; what was measured before an error is kept."""

    def breaks() -> Iterator[Figure]:
        yield Figure("fast", 3.0, "x", at_least=2)
        yield Figure("wide", math.inf, "MB")
        raise OSError("the disk is full")

    report("first", [Figure("fast", 1.0, "x", at_least=2), Figure("small", 123456.789, "B")])
    with pytest.raises(OSError, match="disk is full"):
        report("first", breaks())

    (path,) = results.iterdir()
    record = records.read(path)
    assert path == record.path
    assert path.name == f"first-{records.this_commit()}-{records.this_machine().kind}.json"
    assert record.figures == (
        Figure("fast", 3.0, "x", at_least=2),
        Figure("small", 123460.0, "B"),
        Figure("wide", math.inf, "MB"),
    )


def kept(commit: str, *figures: Figure, benchmark: str = "first", day: int = 1) -> Record:
    """A record of a machine that there is not."""
    machine = Machine("model T", 2, 4, "3.11.2")
    return Record(benchmark, commit, f"2026-01-{day:02}T00:00:00+00:00", 0.1, machine, figures)


@pytest.mark.parametrize(
    ("before", "now", "end"),
    [
        (Figure("time", 2.0, "s", at_most=3), Figure("time", 1.0, "s", at_most=3), "0.50 x better"),
        (Figure("time", 2.0, "s", at_most=3), Figure("time", 4.0, "s", at_most=3), "2.00 x worse"),
        (Figure("speed", 2.0, "x", at_least=1), Figure("speed", 4.0, "x", at_least=1), "2.00 x better"),
        (Figure("speed", 2.0, "x", at_least=1), Figure("speed", 1.9, "x", at_least=1), "0.95 x"),
        (Figure("part", 0.5, ""), Figure("part", 0.1, ""), "0.20 x"),
        (Figure("lost", 0.0, "", at_most=0), Figure("lost", 2.0, "", at_most=0), "inf x worse"),
        (Figure("lost", 0.0, "", at_most=0), Figure("lost", 0.0, "", at_most=0), "1.00 x"),
    ],
)
def test_change_says_what_is_better_by_the_target(before: Figure, now: Figure, end: str) -> None:
    """And nothing where none is, or where the change is noise."""
    line = str(compare.Change(before, now))

    assert line.endswith(end)
    assert len(line) <= 78


def test_newest_record_is_compared_with_the_one_of_another_commit_before(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1 only for what is worse and short."""
    slow, fast = Figure("time", 4.0, "s", at_most=3), Figure("time", 1.0, "s", at_most=3)
    other = kept("aaa", slow, benchmark="web")
    for record in (kept("aaa", fast), kept("bbb", slow, day=2), kept("bbb", slow, day=3), other):
        monkeypatch.setattr(records, "RESULTS", results)
        records.keep(record, record.figures)
    kind = other.machine.kind

    assert compare.main(["--machine", kind]) == 1
    assert "first: aaa (2026-01-01) -> bbb (2026-01-03)" in capsys.readouterr().out
    assert compare.main(["--machine", kind, "web"]) == 0
    assert compare.main(["--machine", "another"]) == 0
    assert "no benchmark was kept for two commits" in capsys.readouterr().out


def test_table_has_the_newest_value_of_each_headline() -> None:
    """With the commit that it was measured on; what was never measured is left out."""
    name = "quakegrid run: wall time"
    found = [kept("aaa", Figure(name, 2.0, "s")), kept("bbb", Figure(name, 0.5, "s"), day=2)]

    table = headlines.headlines(found)

    assert "| 0.5 s | bbb | `make bench-first` |" in table
    assert table.count("\n| ") == 1


def test_claim_is_left_out_until_all_its_figures_were_measured() -> None:
    """Claims without figures stay."""
    without = headlines.claims([])
    figures = [Figure(name, 2.5, "us") for _, name in headlines.CLAIMS[0].figures]

    found = headlines.claims([kept("aaa", *figures)])

    assert "`quakegrid run` 2.5 µs on a cluster that is up, `oq engine --run` 2.5 µs |" in found
    assert found.count("\n") == without.count("\n") + 1
    assert "6,302 faults" in without


def test_table_stands_between_the_marks_of_a_page(tmp_path: Path) -> None:
    """What was there goes; a page without marks is an error that names it."""
    page = tmp_path / "page.md"
    page.write_text(f"before\n{headlines.BEGIN}old\n{headlines.END}after\n", encoding="utf-8")

    assert headlines.with_table(page, "new\n") == f"before\n{headlines.BEGIN}\nnew\n\n{headlines.END}after\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md lacks the lines"):
        headlines.with_table(page, "new\n")


def test_pages_have_the_figures_that_were_measured_last() -> None:
    """`make reference` writes them."""
    for page, text in headlines.pages().items():
        assert page.read_text(encoding="utf-8") == text


# Benchmarks whose parts are measured one by one.
PARTED = ("qa", "simulate")


def run_of(benchmark: str, figure: str) -> tuple[str, str]:
    """What is measured together: a benchmark, or a part of it that takes minutes, as the name says."""
    return benchmark, figure.partition(":")[0] if benchmark in PARTED else ""


def test_headlines_and_claims_name_figures_that_were_measured() -> None:
    """A benchmark that renames a figure takes its headline along."""
    found = headlines.newest(records.all_records())
    measured = {run_of(*figure) for figure in found}

    named = {(line.benchmark, line.figure) for line in headlines.HEADLINES}
    named |= {figure for claim in headlines.CLAIMS for figure in claim.figures}
    assert [figure for figure in named - found.keys() if run_of(*figure) in measured] == []
