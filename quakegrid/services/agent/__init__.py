"""The programs of a node.

    broker --gRPC--> agent (node/) --orders.py, as packets.py sends them--> template (template/)
    template --fork--> worker (worker/), or driver (quakegrid.engine)

`node/` is the agent process, `rules/` what it decides (pure), `agentctl/` its command line. All of them use
`linux/`. Read `node/agent.py` first.
"""
