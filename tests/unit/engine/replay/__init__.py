"""Tests of running a calculation again from its journal."""
