"""Tests of the tool that runs all of the engine's QA data."""
