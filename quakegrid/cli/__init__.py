"""The command line `quakegrid`: a module a command group, and one that renders."""
