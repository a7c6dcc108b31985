"""Which code is installed, and in which version."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import quakegrid
from quakegrid.sdk.answers import versions


def test_installed_modules_have_the_version_of_their_package() -> None:
    """Stated by the package, or by what was installed; those of Python have that of Python."""
    assert versions.version_of("numpy.linalg") == np.__version__
    assert versions.version_of("google.protobuf") not in (None, "")
    assert versions.version_of("json.decoder") == ""
    assert "xxhash" in str(versions._distributed_version("xxhash"))
    assert versions._distributed_version("nothing_like_it") == ""


def test_own_modules_have_none_but_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also before they are imported; what cannot be found has neither."""
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "own_module_of_a_test.py"
    path.write_text("SIZE = 1\n", encoding="utf-8")
    before = versions.source_of("own_module_of_a_test")
    path.write_text("SIZE = 2\n", encoding="utf-8")

    assert versions.version_of("own_module_of_a_test") is None
    assert versions.version_of("__main__") is None
    assert versions.version_of("") is None
    assert versions.version_of(__name__) is None
    assert versions.version_of("nothing_like_it") is None
    assert before
    assert versions.source_of("own_module_of_a_test") != before
    assert "own_module_of_a_test" not in sys.modules
    assert versions.source_of("nothing_like_it") == ""
    assert versions.source_of("nothing_like_it.at_all") == ""
    assert versions.source_of(quakegrid.__name__) != ""
