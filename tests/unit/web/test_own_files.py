"""Who may name a job file of the server."""

from __future__ import annotations

import os

import pytest

from quakegrid.errors import NotAllowedError, UsageError
from quakegrid.services.web.api import own_files
from quakegrid.services.web.callers import Caller, of_account

ANNA = Caller(54321, "anna")


def test_only_who_has_the_rights_of_services_names_a_path() -> None:
    """A driver reads it with these rights, so others would see what they may not read."""
    with pytest.raises(NotAllowedError, match="you are anna and may not name files of the server; send them"):
        own_files.job_file(ANNA, "/etc/shadow.ini")
    with pytest.raises(UsageError, match="no such file"):
        own_files.job_file(of_account(os.geteuid(), "service"), "/nowhere/job.ini")
