"""Tests of `quakegrid.cli.results`."""
