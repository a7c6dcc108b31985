"""The agent process: one event loop. `agent.py` builds the parts and connects them; read it first.

    doors/ (gRPC port, unix socket) --> workers.py, drivers.py --> children.py --> rules/roster.py (decides)
                                                   templates/ (orders to templates) <--'
    templates/ (reports) --> exits.py --> watchers.py (brokers and people), drivers.py (command lines)
    shares.py: what a worker has besides cores: limits/ (memory), output/ (pipes), leftovers.py (blobs)
    serving.py: cores for the fleet; membership.py: which fleet; core_claims.py: which cores of the machine
"""
