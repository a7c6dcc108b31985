"""What changes while one looks: jobs, the fleet and logs, as server-sent events.

`jobs.py` and `fleet.py` each follow their service once for all pages, by `following.py`, also when it was
started again; `streams.py` is what pages open. `limited.py` has what somebody sees who does not see all jobs
(pure). `feed.py` passes events on to many readers, and knows the last ones, so that a reader that was away
goes on.
"""
