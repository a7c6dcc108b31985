"""Tests of `quakegrid.cli.checks`."""
