"""The nodes: `registry.py` has all links and turns what agents tell into events of the fleet core.

`link.py` is the connection to one agent, `link_failures.py` has the words for one that failed, `orders.py`
has the orders to it; `silence.py` says when its node is lost, `instances.py` which nodes are one, `joined.py`
remembers those that joined. Read `registry.py` first.
"""
