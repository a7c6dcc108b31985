"""Clients of the dbserver, all over one `DbClient`: start at `client.py`.

`job_watch.py` follows changes of jobs, `own_jobs.py` finds the job that a number means, `log_sender.py`
sends lines in the background, `tags.py` and `database_admin.py` are for people.
`engine_call_streams.py` carries the engine's calls, over `private_grpc_streams.py`.
"""
