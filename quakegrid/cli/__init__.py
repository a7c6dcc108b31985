"""The command line `quakegrid`: a module for each group of commands, and `views/` for what they print."""
