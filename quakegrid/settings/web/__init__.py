"""Settings of the web service's doors: who may look, by which names, and how people log in."""
