"""What people and Prometheus see of the broker; nothing here changes anything."""
