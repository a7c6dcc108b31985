"""Tests that run real calculations of the OpenQuake engine."""
