"""What the dbserver promises, broken on purpose."""
