"""The output of workers and drivers: pipes for workers, and a log for drivers."""
