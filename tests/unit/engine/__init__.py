"""Unit tests of the bridge to the engine."""
