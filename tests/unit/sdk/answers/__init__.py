"""Tests of what calls are known by, and of the journal that answers them."""
