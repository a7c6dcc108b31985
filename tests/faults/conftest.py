"""Fixtures of the integration tests, for tests that break things."""

from __future__ import annotations

from tests.integration.conftest import client, dbserver, settings

__all__ = ["client", "dbserver", "settings"]
