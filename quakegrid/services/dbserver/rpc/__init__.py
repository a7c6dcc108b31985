"""The servicers of the dbserver, one module a contract: decode, call, encode.

`interceptor.py` runs their methods, `status_codes.py` answers their errors, `servicers.py` joins them all.
"""
