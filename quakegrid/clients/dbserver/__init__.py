"""Clients of the dbserver, all over one `DbClient`: start at `client.py`.

Its parts are `jobs.py`, `logs.py` and `outputs.py`, with one codec, `job_messages.py`. `job_watch.py` follows
changes of jobs, `own_jobs.py` finds the job that a number means, `log_sender.py` sends lines in the
background, `tags.py` and `database_admin.py` are for people.
`engine_call_streams.py` carries the engine's calls, over `private_grpc_streams.py`.
"""
