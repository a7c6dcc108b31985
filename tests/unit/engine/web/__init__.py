"""What drivers do for the web service: inputs that were sent, pictures."""
