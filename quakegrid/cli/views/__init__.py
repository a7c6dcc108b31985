"""Prints and draws for the command line: tables, progress, reports."""
