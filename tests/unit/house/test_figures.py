"""Lines and exit codes of benchmarks."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.support.figures import Figure, report

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


def test_each_figure_is_told_as_soon_as_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """A benchmark that breaks later has told what it has; the exit code knows of any that is short."""

    def measure() -> Iterator[Figure]:
        yield Figure("first", 1.0, "s", at_most=0.5)
        assert "first" in capsys.readouterr().out
        yield Figure("second", 1.0, "s", at_most=2)

    assert report(measure()) == 1
    assert report([Figure("second", 1.0, "s", at_most=2), Figure("third", 1.0, "s")]) == 0


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmark_ends_with_the_exit_code_of_its_figures(path: Path) -> None:
    """`make bench-...` fails when a figure is short."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    reports = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "report"]
    exits = [call for call in calls if ast.unparse(call.func) == "sys.exit"]

    assert len(reports) == 1
    assert [ast.unparse(call) for call in exits] in (["sys.exit(main())"], ["sys.exit(report(figures()))"])
