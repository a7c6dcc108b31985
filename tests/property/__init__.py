"""State machines that feed the pure cores lost, late and repeated messages."""
