"""The nodes: `registry.py` has all links and turns what agents tell into events of the fleet core.

`link.py` is the connection to one agent, `orders.py` the orders to it; `silence.py` says when its node is
lost, `instances.py` which nodes are one, `joined.py` remembers those that joined.
Read `registry.py` first.
"""
