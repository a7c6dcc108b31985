"""Thread counts that are told to libraries which are loaded already."""

from __future__ import annotations

import os
import sys
import types

import pytest

from quakegrid.services.agent.worker import threads


class Numexpr(types.ModuleType):
    """As numexpr, which reads its variable when it is imported."""

    def __init__(self) -> None:
        super().__init__("numexpr")
        self.thread_count = int(os.environ["NUMEXPR_NUM_THREADS"])

    def set_num_threads(self, count: int) -> None:
        """Use so many."""
        self.thread_count = count


def test_numexpr_that_the_template_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment comes too late for it; what is loaded later obeys that."""
    for variable in threads.THREAD_VARIABLES:
        monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(threads, "_loaded_libraries", list)
    for name in ("numba.core.config", "numba.np.ufunc.parallel"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    numexpr = Numexpr()
    monkeypatch.setitem(sys.modules, "numexpr", numexpr)

    threads.set_thread_count(3)

    assert numexpr.thread_count == 3
    assert {os.environ[variable] for variable in threads.THREAD_VARIABLES} == {"3"}
