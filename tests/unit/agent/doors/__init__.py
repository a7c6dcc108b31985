"""Tests of the entrances of an agent."""
