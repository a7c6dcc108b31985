"""Fingerprints: what is compared, and how it is said."""

from __future__ import annotations

import platform

import pytest

from quakegrid import __version__
from quakegrid.nodes import environment, fingerprint


def test_only_what_the_driver_names_is_compared() -> None:
    """A node may have anything else."""
    node = {"numpy": "2.2.6", "numba": "0.61.2"}

    assert fingerprint.differences({"numpy": "2.2.6"}, node) == []
    assert fingerprint.differences({}, {}) == []


def test_differences_name_both_sides() -> None:
    """By name, settings last."""
    driver = {"[memory] x": "1", "openquake.engine": "3.26.2", "numpy": "2.2.6", "numba": "none"}
    node = {"numpy": "1.26.4", "numba": "none", "[memory] x": "2"}

    assert fingerprint.differences(driver, node) == [
        "numpy 1.26.4 there, 2.2.6 here",
        "openquake.engine none there, 3.26.2 here",
        "[memory] x 2 there, 1 here",
    ]


def test_settings_of_an_engine_that_is_not_loaded_are_not_compared() -> None:
    """A cold node reads them when its workers load the engine."""
    assert fingerprint.differences({"[memory] x": "1"}, {}) == []


@pytest.mark.parametrize(
    ("node_s", "words"),
    [
        (1000.0, "as the master's"),
        (1002.0, "as the master's"),
        (941.0, "as the master's"),
        (1064.0, "as the master's"),
        (1070.0, "65 s ahead"),
        (900.0, "100 s behind"),
    ],
)
def test_clock_is_judged_by_the_best_that_the_times_allow(node_s: float, words: str) -> None:
    """The answer was written at some time between question and answer, five seconds apart here."""
    assert fingerprint.describe_clock(node_s=node_s, asked_s=1000.0, answered_s=1005.0) == words


def test_node_that_is_what_a_driver_is_fits_it() -> None:
    """Calculations and functions, each with what they ask for."""
    node = environment.of_node() | {"[memory] max_multi_fault_ruptures": "2000"}
    seen = node | {fingerprint.CLOCK: fingerprint.CLOCK_FITS}

    assert fingerprint.differences(environment.for_calculations(node), seen) == []
    assert fingerprint.differences(environment.for_functions(), seen) == []
    assert node["QuakeGrid"] == __version__
    assert node["CPU architecture"] == platform.machine()


def test_calculations_ask_for_more_than_functions_do() -> None:
    """An executor needs no numpy; a calculation no cloudpickle, but a clock."""
    node = environment.of_node()

    calculations = environment.for_calculations(node)

    assert set(environment.for_functions()) == {"Python", "lane protocol", "cloudpickle"}
    assert set(calculations) == set(node) - {"cloudpickle"} | {"clock"}


def test_package_that_is_not_installed_has_no_version() -> None:
    """Which is a value, too."""
    assert environment.version_of("no-such-distribution") == "none"
