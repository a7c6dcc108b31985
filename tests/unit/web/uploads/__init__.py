"""Tests of what people send."""
