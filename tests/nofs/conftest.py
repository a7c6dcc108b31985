"""Fixtures of clusters whose machines share nothing."""

from tests.nofs.apart import apart

__all__ = ["apart"]
