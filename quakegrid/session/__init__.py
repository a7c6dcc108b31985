"""A driver's side of its session with the cluster.

    driver's thread --> session.py --> lane_client.py --tasks, outcomes------------> lane
                              +------> stream.py (its own thread) --admission, abort--> broker

`options.py` says what a session asks for, `lane_tasks.py` what travels, `worker_output.py` what workers print.
Read `session.py` first.
"""
