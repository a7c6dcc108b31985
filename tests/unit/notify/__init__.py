"""Unit tests of what tells the ends of jobs."""
