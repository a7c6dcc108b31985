"""Calculations of people that go on after a kill, and whose they are."""
