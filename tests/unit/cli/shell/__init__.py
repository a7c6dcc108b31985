"""Tests of `quakegrid.cli.shell`."""
