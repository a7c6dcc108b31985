"""What workers and drivers print: pipes, and the drivers' log."""
