"""Which job file is taken, and what it may name."""

from __future__ import annotations

import pytest

from quakegrid.errors import UsageError
from quakegrid.services.web.uploads import job_files

GOOD = """[general]
description = Rates / year, see http://example.org and /etc
calculation_mode = classical
[calculation]
source_model_logic_tree_file = models/ssmlt.xml
exposure_file = ../exposure/one.xml ./two.xml
reqv_hdf5 = {'active': 'a/b.hdf5'}
intensity_measure_types_and_levels = {"PGA": logscale(0.005, 2.13, 45)}
sites = 0.0 -0.5, 1.0 2
export_dir = /tmp
poes = 0.1 / 50
"""


def test_job_file_that_names_its_own_is_taken() -> None:
    """Also through a folder beside it, and with an export folder, which is replaced."""
    job_files.check("jobs/job.ini", GOOD)
    job_files.check("jobs/job.ini", "\ufeff" + GOOD)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("../../../tmp/secret.csv", "leads out"),
        ("a/../../x.csv", "leads out"),
        ("..", "leads out"),
        ("..\\x.csv", "leads out"),
        ("/etc/passwd", "absolute"),
        ("//host/x", "absolute"),
        ("~/x.csv", "absolute"),
        ("good.csv /etc/passwd", "absolute"),
        ("{'a': '/etc/passwd'}", "absolute"),
        ("{'a': '../x'}", "leads out"),
        ("http://169.254.169.254/x", "address"),
        ("file:///etc/passwd", "address"),
        ("C:\\x.csv", "\\x.csv"),
        ("${mosaic}/EUR/x.xml", "absolute"),
        ("\n  one.csv\n  /etc/passwd", "absolute"),
    ],
)
def test_value_that_leads_elsewhere_is_refused(value: str, reason: str) -> None:
    """Whatever its key is; the message names it."""
    with pytest.raises(UsageError, match="site_model_file") as caught:
        job_files.check("job.ini", f"[general]\nsite_model_file = {value}\n")

    assert reason in str(caught.value)


def test_what_is_no_job_file_is_left_to_the_engine() -> None:
    """It says what is wrong with it."""
    job_files.check("job.ini", "no section\n/etc/passwd")


def test_job_file_is_chosen_as_upstream_does() -> None:
    """By the end of its name, in any folder, but not what a Macintosh adds."""
    found = ["__MACOSX/a/job.ini", "a/exposure.xml", "a/job_hazard.ini", "a/job_risk.ini"]

    assert job_files.job_file(found, ".ini") == "a/job_hazard.ini"
    assert job_files.job_file(found, "risk.ini") == "a/job_risk.ini"
    with pytest.raises(UsageError, match=r"no other\.ini files"):
        job_files.job_file(found, "other.ini")
