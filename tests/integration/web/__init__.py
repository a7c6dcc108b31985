"""The web service, as a process, beside real services."""
