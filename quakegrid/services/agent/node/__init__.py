"""The agent process: one event loop. `agent.py` builds the parts and connects them; read it first.

Orders: doors/ (gRPC port, unix socket) --> workers.py, drivers.py --> children.py (rules/roster.py decides)
--> templates/ (orders to the template processes).

Reports: templates/ --> exits.py --> watchers.py (brokers, people) and drivers.py (command lines).

`shares.py`: what a worker has besides cores, of limits/ (memory), output/ (pipes), `leftovers.py` (blobs).
`serving.py`: cores for the fleet; `membership.py`: which fleet; `core_claims.py`: which cores of the machine.
"""
