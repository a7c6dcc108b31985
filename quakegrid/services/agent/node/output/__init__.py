"""The output of workers (pipes) and drivers (a log), and the end of the agent's own log."""
