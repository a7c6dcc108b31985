"""What people are told of the fleet."""
