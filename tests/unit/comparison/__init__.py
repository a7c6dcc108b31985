"""Tests of `quakegrid.comparison`."""
