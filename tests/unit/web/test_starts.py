"""For whom drivers of the web service work, and what they get of its environment."""

from __future__ import annotations

import os
import pwd

from quakegrid.services.web.callers import Caller
from quakegrid.services.web.persons import whose
from quakegrid.services.web.starts import ModelRun, _request

OWN_NAME = pwd.getpwuid(os.geteuid()).pw_name
ENVIRON = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "SECRET": "x", "LOGNAME": "quakegrid", "OQ_DISTRIBUTE": "no"}


def test_driver_of_a_person_is_for_the_person() -> None:
    """The agent decides which account that is; of the environment nothing goes along that can be secret."""
    of_anna = whose.of("anna", "ben")

    assert of_anna.person == "anna"
    assert of_anna.environ(ENVIRON) == {
        "PATH": "/bin",
        "LC_ALL": "C.UTF-8",
        **dict.fromkeys(whose.NAME_VARIABLES, "ben"),
    }


def test_driver_of_the_services_account_is_as_without_people() -> None:
    """On one's own machine nobody else is named, and the environment is that of the service."""
    for name in (OWN_NAME, "root"):
        own = whose.of(name, name)
        assert own.person == ""
        assert own.environ(ENVIRON)["SECRET"] == "x"
        assert own.environ(ENVIRON)["LOGNAME"] == name
    assert whose.SERVICE.environ(ENVIRON)["LOGNAME"] == "quakegrid"


def test_calculation_of_a_person_is_asked_for_in_the_persons_name(tmp_path: os.PathLike[str]) -> None:
    """Its driver cannot enter the folder of the service."""
    what = ModelRun(tmp_path / "files" / "job.ini", tmp_path / "files", "0" * 24)  # type: ignore[operator]

    asked = _request(what, Caller(54321, "anna"))
    own = _request(what, Caller(os.geteuid(), OWN_NAME))

    assert (asked["for_person"], asked["cwd"]) == ("anna", "/")
    assert (own["for_person"], own["cwd"]) == ("", str(what.root))
