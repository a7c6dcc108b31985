"""Commands that start, follow, leave and await calculations, at terminals and in scripts."""
