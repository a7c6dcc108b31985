"""Logins at the web service: passwords and their checks, tokens, and sessions.

`book.py` and `passwords.py` do it all for the servicers. `limits.py` decides (pure) who has to wait after
wrong passwords, `hashes.py` computes hashes, `token_rows.py` and `password_rows.py` have the rows.
"""
