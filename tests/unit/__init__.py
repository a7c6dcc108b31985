"""Tests of one module each: no network, no waiting."""
