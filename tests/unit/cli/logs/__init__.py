"""Tests of `quakegrid.cli.logs`."""
