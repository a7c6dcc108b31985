"""Integration tests of values and reports of jobs."""
