"""What happened to the fleet, of the broker: `events.py`."""
