"""The manual as tests see it: its pages and blocks, a shell that runs them, and what is generated."""
