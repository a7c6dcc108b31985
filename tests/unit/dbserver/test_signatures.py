"""Actions with many arguments keep upstream's signature."""

from __future__ import annotations

import inspect

import pytest

from quakegrid.errors import UsageError
from quakegrid.services.dbserver.engine import actions, new_jobs


def test_action_has_the_arguments_of_upstream() -> None:
    """In their order and with their defaults, behind the session."""
    signature = inspect.signature(new_jobs.create_job)

    assert list(signature.parameters) == [
        "session",
        "datadir",
        "calculation_mode",
        "description",
        "user_name",
        "hc_id",
        "host",
        "workflow_id",
    ]
    assert signature.parameters["description"].default == "just created"


@pytest.mark.parametrize(
    ("name", "count", "words"),
    [
        ("create_job", 0, "missing a required argument: 'datadir'"),
        ("create_job", 8, "too many positional arguments"),
        ("import_job", 6, "missing a required argument: 'datadir'"),
        ("import_job", 8, "too many positional arguments"),
    ],
)
def test_wrong_number_of_arguments_is_refused_before_the_call(name: str, count: int, words: str) -> None:
    """With upstream's names of the arguments."""
    with pytest.raises(UsageError, match=f"{name} was called with the wrong arguments: {words}"):
        actions.resolve(name, [1] * count)
