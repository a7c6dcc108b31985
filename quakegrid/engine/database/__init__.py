"""The engine's `dbcmd`, answered by the dbserver.

`dbcmd.py` makes the calls, `hold_keeper.py` tells the dbserver that the driver of a job is alive,
`log_pages.py` reads long logs.
"""
