"""The manual as tests see it: its pages and blocks, a shell that runs their commands, and what is generated."""
