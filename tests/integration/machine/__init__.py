"""Integration tests of the services of one machine, and their installation."""
