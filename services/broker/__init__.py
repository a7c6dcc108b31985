"""The broker process: which nodes there are, and which session has which cores.

    drivers, agents, people --gRPC--> server.py, rpc/ --> broker.py --> fleet/ (pure: decides) --> actions
    actions --> nodes/ (a link to each agent), lanes/ (a process of `services.lane` each), drivers/

Read `broker.py` first: events in, actions out, in one event loop. `guard.py` ends the broker when a bug of
ours leaves its state half changed.
"""
