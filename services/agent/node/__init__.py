"""The agent process: one event loop.

    doors/ (gRPC port, unix socket) --> agent.py --> rules/ (decides) --> templates/ (orders to templates)
    limits/ (samples of memory), output/ (pipes of workers), membership.py (which fleet)

Read `agent.py` first.
"""
