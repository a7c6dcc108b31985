"""The doors of the web service: who asks, from where, and what they may do.

`gate.py` is what every request passes. `peers.py` finds out where it comes from (pure), `logins.py` who shows
a cookie or a token. `rights.py` has the table of all routes, `guarded.py` holds it. `accounts.py` has the
routes of logins, `tls.py` the certificate.
"""
