"""A driver's side of its session with the cluster.

    driver's thread --> session.py --> lane_client.py --> driver_socket.py <--tasks, outcomes--> lane
                             |
                             +-------> stream.py (its thread) --> broker_link.py <--admission, abort--> broker

`task_window.py` says which tasks are on the lane; the others wait in the driver. `options.py` says what a
session asks for and how long it waits, `stream_rules.py` what follows from the broker's messages,
`lane_tasks.py` what travels, `retelling.py` when a lane is told again, `worker_output.py` what workers print,
`stage_teller.py` how far the driver is. Read `session.py` first.
"""
