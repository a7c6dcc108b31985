"""What the doctor says of the web service's doors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from quakegrid.doctor.checks import cluster_checks, web_checks
from quakegrid.doctor.checks.cluster_checks import SharedFolder
from quakegrid.doctor.checks.findings import Severity
from quakegrid.doctor.checks.people_checks import Asked
from quakegrid.doctor.checks.web_checks import WebDoor
from quakegrid.doctor.facts import NodeFacts
from quakegrid.settings.web.access import WebMode

NOW_S, DAY_S = 1.8e9, 86_400
HERE = WebDoor("http://127.0.0.1:8800", WebMode.PUBLIC)
OWN = WebDoor("https://0.0.0.0:8800", WebMode.RESTRICTED, is_here_only=False, certificate="own")
SITE = replace(OWN, certificate="site", end_s=NOW_S + 100 * DAY_S)


@pytest.mark.parametrize(
    ("door", "words"),
    [
        (HERE, "web pages at http://127.0.0.1:8800, mode PUBLIC"),
        (OWN, "mode RESTRICTED, certificate of the cluster's own authority, renewed by itself"),
        (SITE, "mode RESTRICTED, the site's certificate until 2027-04-25"),
    ],
)
def test_doors_that_are_fine_are_told(door: WebDoor, words: str) -> None:
    """Mode, address, and the end of the certificate."""
    (found,) = web_checks.check_web(door, NOW_S, "m")

    assert found.severity is Severity.OK
    assert words in found.what


@pytest.mark.parametrize(
    ("end_s", "words"),
    [
        (NOW_S + 14 * DAY_S, "ends on 2027-01-29"),
        (NOW_S - 1, "ended on 2027-01-15"),
        (0.0, "cannot be read by this user"),
    ],
)
def test_certificate_that_ends_is_told(end_s: float, words: str) -> None:
    """With what to do; the line of `status` tells it, too."""
    door = replace(SITE, end_s=end_s)

    (found,) = web_checks.check_web(door, NOW_S, "m")

    assert (found.check, found.severity) == ("web_certificate", Severity.NOTE)
    assert words in found.what
    assert "no restart is needed" in found.remedy
    assert "cannot be read" in replace(SITE, end_s=0.0).words


@pytest.mark.parametrize("mode", [WebMode.PUBLIC, WebMode.READ_ONLY])
def test_open_doors_are_told(mode: WebMode) -> None:
    """Where others than this machine reach them."""
    note, _ = web_checks.check_web(replace(OWN, mode=mode), NOW_S, "m")

    assert note.severity is Severity.NOTE
    assert "everybody who reaches the port" in note.what


def test_cluster_is_checked_with_its_web() -> None:
    """If there is one."""
    master = NodeFacts(node="m", machine="boot m")

    def checks(asked: Asked) -> set[str]:
        return {each.check for each in cluster_checks.check_cluster(master, [], SharedFolder(), asked)}

    assert "web" in checks(Asked(now_s=NOW_S, web=HERE))
    assert "web" not in checks(Asked(now_s=NOW_S))
