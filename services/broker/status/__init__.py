"""What people and Prometheus see of the broker: `status.py`, `totals.py`, `metrics.py`. Changes nothing."""
