"""Who may call what: principals, and the table of all calls, `permissions.py`; start there."""
