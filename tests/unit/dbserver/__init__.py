"""Unit tests of the dbserver."""
