"""The broker process: which nodes there are, and which session has which cores.

    drivers, agents, people --gRPC--> server.py, rpc/ --> broker.py, nodes/registry.py
    events --> fleet_loop.py --> fleet/ (pure: decides) --> fleet_actions.py
    actions --> worker_orders.py, nodes/ (agents), lanes/ (processes of `quakegrid.services.lane`), drivers/

Read `broker.py` first, which builds the parts, then `fleet_loop.py`: events in, actions out, in one event
loop. `guard.py` ends the broker when a bug of ours leaves its state half changed.
"""
