"""The programs of a node.

    broker --gRPC--> agent (node/) --socket pair, orders.py--> template (template/)
    template --fork--> worker (worker/), or driver (quakegrid.engine)

`node/` is the agent process, `rules/` what it decides (pure), `agentctl/` its command line. All of them use
`linux/`. Read `node/agent.py` first.
"""
