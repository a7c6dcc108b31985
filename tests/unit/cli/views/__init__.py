"""Tests of `quakegrid.cli.views`."""
