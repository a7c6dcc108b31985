"""What the design promises, tested by breaking it."""
