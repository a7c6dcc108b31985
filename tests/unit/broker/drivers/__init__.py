"""What drivers tell the broker."""
