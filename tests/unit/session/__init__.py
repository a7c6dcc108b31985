"""Tests of a driver's session."""
