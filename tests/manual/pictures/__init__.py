"""The pictures of the manual: pages in a browser, terminals, and drawings of the architecture."""
