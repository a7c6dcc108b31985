"""Unit tests of values and reports of jobs."""
