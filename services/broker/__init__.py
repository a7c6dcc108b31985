"""The broker: the fleet of nodes, and the lanes that carry tasks and outcomes."""
